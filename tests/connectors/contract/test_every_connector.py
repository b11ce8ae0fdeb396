"""Every connector of the registry is put to the contract, has a form that people can fill in, and a page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.connectors.contract.destinations import DESTINATIONS, ELSEWHERE_DESTINATIONS
from tests.connectors.contract.sources import ELSEWHERE_SOURCES, PLANTED, SOURCES, ElsewhereCase
from tests.connectors.reading import context_in
from webapp.api.olake.specs import ui_hints
from webapp.engine.connectors import registry
from webapp.engine.connectors.base import Source
from webapp.engine.errors import EngineError, Kind
from webapp.secrets import is_secret

DOCS = Path(__file__).parents[3] / "docs"
EVERY = [
    *(("source", name) for name in registry.source_names()),
    *(("destination", name) for name in registry.destination_names()),
]
ELSEWHERE = [
    *(("source", case) for case in ELSEWHERE_SOURCES),
    *(("destination", case) for case in ELSEWHERE_DESTINATIONS),
]


def test_no_connector_is_without_its_case() -> None:
    put = [("source", case.connector) for case in SOURCES]
    put += [("destination", case.connector) for case in DESTINATIONS]
    put += [(role, case.connector) for role, case in ELSEWHERE]
    assert set(EVERY) - set(put) == set(), "these connectors have no case in tests/connectors/contract"
    assert set(put) - set(EVERY) == set(), "these cases are of connectors that are not in the registry"


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_its_form_is_a_json_schema_whose_fields_are_named_and_explained(role: str, name: str) -> None:
    schema = registry.spec_class(role, name).model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    for where, field in fields(schema):
        part = schema.get("$defs", {}).get(str(field.get("$ref", "")).rpartition("/")[2], {})
        assert {"title", "description"} <= {**part, **field}.keys(), f"{name}: {where} says too little"


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_its_secrets_are_marked_for_the_form_and_known_to_the_mask(role: str, name: str) -> None:
    schema = registry.spec_class(role, name).model_json_schema()
    hidden = hidden_in(ui_hints(schema))
    for where, field in fields(schema):
        last = where.rpartition(".")[2]
        kinds = [field, *field.get("anyOf", [])]
        if any(kind.get("format") == "password" for kind in kinds):
            assert is_secret(last), f"{name}: {where} is a secret that the mask does not know"
        if is_secret(last):
            assert any(kind.get("writeOnly") for kind in kinds), f"{name}: {where} is no SecretStr"
            assert last in hidden, f"{name}: {where} is shown while it is typed"


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_it_is_called_by_its_registered_name_and_has_a_title(role: str, name: str) -> None:
    connector = registry.connector_class(role, name)
    assert connector.name == name
    assert connector.title


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_the_index_leads_to_its_page_and_says_what_was_proven(role: str, name: str) -> None:
    [row] = [row for row in index_rows() if row["type"] == f"`{name}`" and role in row["as"]]
    assert (DOCS / row["page"]).exists()
    assert row["proven against"]


def index_rows() -> list[dict[str, str]]:
    """The table of docs/connectors.md, `page` being where the system's link leads."""
    lines = [line for line in (DOCS / "connectors.md").read_text().splitlines() if line.startswith("| [")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = ("system", "type", "as", "proven against")
    rows = [dict(zip(names, found, strict=True)) for found in cells]
    return [{**row, "page": row["system"].partition("](")[2].rstrip(")")} for row in rows]


# --- systems that cannot run beside the tests -------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "case"), ELSEWHERE, ids=str)
def test_a_system_that_is_not_here_gives_its_drivers_own_refusal(
    role: str, case: ElsewhereCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.engine.connectors.mongodb.source.CONNECT_MILLISECONDS", 300)  # it tries until then
    made = registry.connector_class(role, case.connector)
    connector = made(made.Spec.model_validate(case.config), context_in(tmp_path))
    *before, last = connector.check()
    assert all(step.ok for step in before)
    assert (last.ok, bool(last.message), bool(last.fix)) == (False, True, True)
    assert PLANTED not in repr([*before, last])
    with pytest.raises(EngineError) as refused:
        if isinstance(connector, Source):
            list(connector.discover())
        else:
            connector.open().__enter__()
    assert refused.value.kind is Kind.TRANSIENT
    assert PLANTED not in repr(refused.value.message)


@pytest.mark.parametrize(("role", "case"), ELSEWHERE, ids=str)
def test_its_page_says_that_it_is_not_proven(role: str, case: ElsewhereCase) -> None:
    [row] = [row for row in index_rows() if row["type"] == f"`{case.connector}`" and role in row["as"]]
    assert row["proven against"] == "not proven"
    assert "not proven" in (DOCS / row["page"]).read_text().lower()


def test_what_is_called_not_proven_has_no_other_case() -> None:
    proven = {("source", case.connector) for case in SOURCES}
    proven |= {("destination", case.connector) for case in DESTINATIONS}
    assert proven & {(role, case.connector) for role, case in ELSEWHERE} == set()


# --- looking through schemas ------------------------------------------------------------------------------------------


def fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All fields of a form with where they stand, those of its parts too."""
    for owner, part in [("", schema), *schema.get("$defs", {}).items()]:
        for name, field in part.get("properties", {}).items():
            yield f"{owner}.{name}".lstrip("."), field


def hidden_in(hints: Any) -> set[str]:
    """The fields that the form hides while they are typed."""
    if not isinstance(hints, dict):
        return set()
    here = {name for name, hint in hints.items() if isinstance(hint, dict) and hint.get("ui:widget") == "password"}
    return here.union(*(hidden_in(hint) for hint in hints.values()))
