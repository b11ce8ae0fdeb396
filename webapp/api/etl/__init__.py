"""The JSON doors of contract 001, jobs and runs, which also understand contract 003's words for the same things."""

from webapp.api.etl import jobs, runs
from webapp.api.etl.blueprint import door

__all__ = ["door", "jobs", "runs"]
