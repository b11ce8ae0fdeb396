# Hohmann: `make run` starts everything, `make test` proves everything. Nothing but Python 3.11 is needed.
# What is installed is stamped inside .venv and node_modules: repeating a target costs milliseconds. Targets that
# install hold a lock, so that two may start at once.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

export PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCK := mkdir -p $(VENV) && flock $(VENV)/.lock
PARALLEL ?= 2

RUN_STAMP := $(VENV)/.run-stamp
DEV_STAMP := $(VENV)/.dev-stamp
ASSETS := static/vendor/manifest.json
ASSET_SOURCES := package.json package-lock.json $(wildcard frontend/* static/css/* static/icons/*)

.PHONY: help setup run test check test-sqlite test-postgresql airflow azurite clickhouse bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo
	@echo '  PORT (8000), HOHMANN_HOME, DATABASE_URL and all other settings: docs/configuration.md'

setup: $(RUN_STAMP) $(ASSETS) ## Install what the stack needs: .venv and the front-end assets

run: setup ## Start the whole stack in the foreground: http://127.0.0.1:$PORT
	@exec $(BIN)/python -m webapp.stack

test: check ## Run all checks, the whole suite on SQLite, and all of it that has to do with the database on PostgreSQL
	@$(BIN)/python -m pytest -n $(PARALLEL) --dist loadgroup --database=sqlite
	@$(BIN)/python -m pytest -n $(PARALLEL) --dist loadgroup --database=postgresql --only-with-database

check: setup $(DEV_STAMP) ## Lint, types, order of imports, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; export HOHMANN_HOME=$$home DATABASE_URL=; \
	$(BIN)/flask db upgrade && $(BIN)/flask db check

test-sqlite: setup $(DEV_STAMP) ## Run the suite on SQLite only
	@$(BIN)/python -m pytest -n $(PARALLEL) --dist loadgroup --database=sqlite

test-postgresql: setup $(DEV_STAMP) ## Run on PostgreSQL all tests that have to do with the database
	@$(BIN)/python -m pytest -n $(PARALLEL) --dist loadgroup --database=postgresql --only-with-database

airflow: ## Install Apache Airflow, which some tests need, into an environment of its own
	@tools/setup.sh airflow

azurite: ## Install the stand-in for Azure's blob storage, which some tests need
	@tools/setup.sh azurite

clickhouse: ## Install ClickHouse's engine, which some tests need, into an environment of its own
	@tools/setup.sh clickhouse

bench: setup $(DEV_STAMP) ## List the benchmarks: each is one command that prints and stores its figures
	@for file in benchmarks/[a-z]*.py; do echo "  $(BIN)/python $$file"; done

clean: ## Remove what was installed and built here (never data: that is in HOHMANN_HOME)
	rm -rf $(VENV) node_modules static/vendor .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(RUN_STAMP): requirements.txt
	@$(LOCK) tools/setup.sh python requirements.txt $@

$(DEV_STAMP): requirements.txt requirements-dev.txt requirements-extras.txt | $(RUN_STAMP)
	@$(LOCK) tools/setup.sh python requirements-dev.txt $@

$(ASSETS): $(ASSET_SOURCES) | $(RUN_STAMP)
	@$(LOCK) tools/setup.sh assets $@
