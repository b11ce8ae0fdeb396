"""What every connector's form promises, and what looking at the forms costs."""

from pathlib import Path

import pytest

from tests.house.test_lazy_imports import HEAVY, loaded_after
from webapp.connections import configs
from webapp.connections.models import ConnectionRole
from webapp.engine.connectors import registry

EVERY_SPEC = """
from webapp.engine.connectors import registry
for role, names in (("source", registry.source_names()), ("destination", registry.destination_names())):
    for name in names:
        try:
            registry.spec_class(role, name).model_json_schema()
        except ModuleNotFoundError:
            pass
"""


def test_looking_at_every_form_loads_no_driver(tmp_path: Path) -> None:
    drivers = {"psycopg", "adbc_driver_manager", "pymysql", "oracledb", "pymongo", "pyiceberg", "fsspec", "boto3"}
    assert loaded_after(EVERY_SPEC, tmp_path) & (HEAVY | drivers) == set()


@pytest.mark.parametrize("role", list(ConnectionRole))
def test_every_field_of_every_form_has_a_title_and_says_what_it_is(role: ConnectionRole) -> None:
    names = registry.source_names() if role is ConnectionRole.SOURCE else registry.destination_names()
    silent = []
    for name in names:
        if spec := configs.installed_spec(role, name):
            schema = spec.model_json_schema()
            for field, facts in schema.get("properties", {}).items():
                # What a field says in the very words of its part, is said there only.
                part = schema.get("$defs", {}).get(str(facts.get("$ref", "")).rpartition("/")[2], {})
                silent += [
                    f"{name}.{field}.{word}" for word in ("title", "description") if word not in {**part, **facts}
                ]
    assert silent == []
