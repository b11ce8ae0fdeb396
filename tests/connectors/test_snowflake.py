"""Snowflake as a destination, as far as it goes without an account: configuration, statements, files, refusals."""

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tests.connectors.contract.types_page import TYPES
from tests.connectors.lakes import EVERY, FULL, PLAIN, crew
from tests.connectors.reading import context_in
from tests.engine.api_server import Reply, api_server
from webapp.engine.connectors import extras
from webapp.engine.connectors.base import Chunk, Column, Load, Target, Write, first_failure
from webapp.engine.connectors.snowflake import account
from webapp.engine.connectors.snowflake.account import Account, fault
from webapp.engine.connectors.snowflake.columns import column_of, comment, native_type, quoted
from webapp.engine.connectors.snowflake.contents import Place
from webapp.engine.connectors.snowflake.destination import SnowflakeDestination
from webapp.engine.connectors.snowflake.loading import SnowflakeWriter
from webapp.engine.connectors.snowflake.spec import SnowflakeSpec
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind

GIVEN = {"account": "Org-My_Account", "username": "ann", "password": "hidden-word", "database": "shop"}
PLACE = Place("shop", "mission", "crew")
TABLE = '"SHOP"."MISSION"."CREW"'
AN_ID = ("ID", "NUMBER", 19, 0, None, "NO", "hohmann: BIGINT")
A_NAME = ("NAME", "TEXT", None, None, None, "YES", None)


class Recorder(Account):
    """An account outside of any machine: it takes statements down, and answers from what a test says is there."""

    def __init__(self, context: Context, columns: Sequence[tuple[Any, ...]] = (), *, noted: bool = True) -> None:
        self.config = SnowflakeSpec.model_validate(GIVEN)
        self.context = context
        self.columns = columns
        self.noted = noted
        self.said: list[str] = []
        self.files: list[pa.Table] = []
        self.ledger_rows = 1

    def close(self) -> None:
        self.said.append("close")

    def do(self, *statements: str) -> int:
        for statement in statements:
            if statement.startswith("PUT"):
                self.files.append(pq.read_table(statement.split("'")[1].removeprefix("file://")))
            self.said.append(statement)
        last = statements[-1] if statements else ""
        if last.startswith(("UPDATE", 'INSERT INTO "SHOP"."_HOHMANN"."CONTENT"')):
            return self.ledger_rows
        return sum(file.num_rows for file in self.files)

    def rows(self, query: str) -> Sequence[Sequence[Any]]:
        if ".TABLES" in query:
            return [("BASE TABLE", "hohmann: abc" if self.noted else None)] if self.columns else []
        if ".COLUMNS" in query:
            return self.columns
        if "SELECT state" in query:
            return [('{"cursor": 1}', "r1")] if self.noted else []
        return [(0 if "COUNT_IF" in query else sum(file.num_rows for file in self.files),)]

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        yield


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


def load(
    there: Recorder, write: Write, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column] = PLAIN, key: str = ""
) -> list[str]:
    """What is said from the first COPY on."""
    writer = SnowflakeWriter(
        there, PLACE, Load(Target("mission", "crew"), write, tuple(columns), key=(key,) * bool(key))
    )
    try:
        writer.begin()
        writer.write(pa.Table.from_pylist(list(rows), schema=arrow_schema(columns)).to_reader(), Chunk("all"))
        landed = writer.commit({"cursor": "it's 3"})
    except BaseException:
        writer.abort()
        raise
    assert (landed.written, landed.found) == (len(rows), len(rows))
    return there.said[next(at for at, one in enumerate(there.said) if one.startswith("COPY")) :]


def short(statements: Sequence[str]) -> list[str]:
    """The first words of each, without names that are new for each load."""
    return [" ".join(one.split()[:2]) for one in statements]


# --- configuration ----------------------------------------------------------------------------------------------------


def test_the_host_is_that_of_the_account_unless_one_is_given() -> None:
    assert SnowflakeSpec.model_validate(GIVEN).endpoint() == "ann@org-my-account.snowflakecomputing.com:443"
    assert SnowflakeSpec.model_validate({**GIVEN, "host": "sf.local"}).endpoint() == "ann@sf.local:443"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"password": ""}, "one of the two"),
        ({"private_key": "x"}, "one of the two"),
        ({"account": "a/../b"}, "account"),
    ],
)
def test_a_configuration_that_leads_nowhere_is_refused_by_its_field(change: dict[str, str], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        SnowflakeSpec.model_validate({**GIVEN, **change})


def test_plain_names_need_no_quotes_and_others_stay_as_they_are() -> None:
    assert [quoted(name) for name in ("crew_1", "Crew", 'a "b"', "é")] == ['"CREW_1"', '"Crew"', '"a ""b"""', '"é"']


@pytest.mark.parametrize("kind", TYPES)
def test_a_column_that_a_load_made_is_known_again_by_its_type(kind: str) -> None:
    native = {"VARCHAR": "TEXT"}.get(native_type(kind), native_type(kind))
    noted = comment(kind).removeprefix(" COMMENT '").removesuffix("'")
    assert column_of("C", native, True, noted) == (Column("C", kind, True, native), True)


# --- statements and files ---------------------------------------------------------------------------------------------


def test_the_first_load_notes_its_state_and_then_takes_the_name(context: Context) -> None:
    said = load(Recorder(context), Write.APPEND, crew(1, 2))
    assert short(said)[:3] == ["COPY INTO", "INSERT INTO", "ALTER TABLE"]
    assert "it''s 3" in said[1]
    assert said[2].endswith(f"RENAME TO {TABLE}")
    assert short(said)[3:] == ["DROP TABLE", "DROP TABLE", "DROP STAGE", "close"]


def test_a_replace_notes_its_state_and_then_swaps(context: Context) -> None:
    there = Recorder(context, [AN_ID, A_NAME])
    said = load(there, Write.REPLACE, crew(1, 2))
    made = next(one for one in there.said if one.startswith('CREATE TABLE "SHOP"."_HOHMANN"."STAGE'))
    token = made.rpartition("hohmann: ")[2].rstrip("'")
    assert token in said[1]
    assert said[2].startswith(f"ALTER TABLE {TABLE} SWAP WITH ")
    assert said[3].startswith('DELETE FROM "SHOP"."_HOHMANN"."CONTENT" WHERE token = \'abc\'')


def test_an_append_changes_rows_and_state_in_one_transaction(context: Context) -> None:
    said = load(Recorder(context, [AN_ID, A_NAME]), Write.APPEND, crew(1, 2))
    assert short(said)[:5] == ["COPY INTO", "BEGIN", "INSERT INTO", 'UPDATE "SHOP"."_HOHMANN"."CONTENT"', "COMMIT"]
    assert said[2].startswith(f'INSERT INTO {TABLE} ("ID", "NAME") SELECT "ID", "NAME" FROM ')
    assert said[3].endswith("WHERE token = 'abc' AND revision = 'r1'")


def test_an_upsert_deletes_what_has_its_keys_and_inserts_the_last_row_of_each(context: Context) -> None:
    there = Recorder(context, [AN_ID, A_NAME])
    said = load(there, Write.UPSERT, crew(1, 2), key="id")
    assert short(said)[1:4] == ["BEGIN", "DELETE FROM", "INSERT INTO"]
    assert said[2].startswith(f"DELETE FROM {TABLE} t USING ")
    assert said[2].endswith('WHERE t."ID" = s."ID"')
    assert said[3].endswith('QUALIFY ROW_NUMBER() OVER (PARTITION BY "ID" ORDER BY "_HOHMANN_CAME" DESC) = 1')
    assert there.files[0].column("_HOHMANN_CAME").to_pylist() == [0, 1]


def test_a_load_that_another_has_overtaken_is_rolled_back(context: Context) -> None:
    there = Recorder(context, [AN_ID, A_NAME])
    there.ledger_rows = 0
    with pytest.raises(EngineError, match="another load") as refused:
        load(there, Write.APPEND, crew(1))
    assert refused.value.kind is Kind.TRANSIENT
    assert "ROLLBACK" in there.said
    assert "COMMIT" not in there.said


def test_definitions_come_before_the_transaction_that_they_would_end(context: Context) -> None:
    columns = (Column("ID", "HUGEINT"), Column("name", "VARCHAR"), Column("extra", "JSON"))
    there = Recorder(context, [AN_ID, A_NAME], noted=False)
    said = load(there, Write.APPEND, [{"ID": 1, "name": "a", "extra": "{}"}], columns)
    defined = said[1 : said.index("BEGIN")]
    assert [one.split(TABLE)[1].strip()[:45] for one in defined] == [
        f"IS 'hohmann: {defined[0].rpartition(' ')[2]}"[:45],
        "ADD COLUMN \"EXTRA\" VARCHAR COMMENT 'hohmann: JSON'"[:45],
        'ALTER COLUMN "ID" SET DATA TYPE NUMBER(38,0)'[:45],
        "ALTER COLUMN \"ID\" COMMENT 'hohmann: HUGEINT'"[:45],
    ]


def test_columns_that_loads_do_not_write_and_views_are_refused(context: Context) -> None:
    variant = ("NAME", "VARIANT", None, None, None, "YES", None)
    with pytest.raises(EngineError, match="VARIANT") as refused:
        load(Recorder(context, [AN_ID, variant]), Write.APPEND, crew(1))
    assert refused.value.fix
    view = Recorder(context, [AN_ID])
    view.rows = lambda query: [("VIEW", None)] if ".TABLES" in query else []  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="not a table"):
        load(view, Write.REPLACE, crew(1))


def test_files_hold_the_values_in_types_that_snowflake_reads(context: Context) -> None:
    unsigned = (Column("u1", "UTINYINT"), Column("u4", "UINTEGER"), Column("u8", "UBIGINT"))
    there = Recorder(context)
    load(there, Write.REPLACE, [{**FULL, "u1": 255, "u4": 2**32 - 1, "u8": 2**64 - 1}], (*EVERY, *unsigned))
    [row] = there.files[0].to_pylist()
    assert (row["U1"], row["U4"], row["U8"], row["BIG"]) == (255, 2**32 - 1, Decimal(2**64 - 1), Decimal(10**30))
    assert (row["HOUR"], row["DAY"], row["SEEN"]) == ("23:59:59.999999", dt.date(1, 1, 1), FULL["seen"])
    assert (row["TAGS"], row["SPOT"]) == ('["", null, "quo\\"ted", "🛰"]', '{"x": 1, "y": "z"}')
    assert (row["RAW"], row["AT"], row["UID"]) == (FULL["raw"], FULL["at"], FULL["uid"])


def test_a_load_leaves_no_file(context: Context) -> None:
    load(Recorder(context), Write.REPLACE, crew(1))
    assert list(context.temp.rglob("*")) == []


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_a_host_that_is_no_snowflake_gives_the_drivers_own_refusal(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "LOGIN_SECONDS", 2)
    with api_server(lambda asked: Reply(b"hello")) as server:
        spec = SnowflakeSpec.model_validate({**GIVEN, "host": "127.0.0.1", "port": server.port})
        failed = first_failure(SnowflakeDestination(spec, context).check())
    assert failed is not None
    assert (failed.name, "host" in failed.fix, "hidden-word" in repr(failed)) == ("log in", True, False), failed


def test_a_broken_key_is_told_from_a_host_that_does_not_answer(context: Context) -> None:
    with api_server(lambda asked: Reply(b"hello")) as server:
        broken = {**GIVEN, "password": "", "private_key": "hidden-word", "host": "127.0.0.1", "port": server.port}
        failed = first_failure(SnowflakeDestination(SnowflakeSpec.model_validate(broken), context).check())
    assert failed is not None
    assert (failed.name, "key" in failed.fix, "hidden-word" in repr(failed)) == ("log in", True, False), failed


@pytest.mark.parametrize(
    ("number", "kind", "word"),
    [(390100, Kind.CONFIGURATION, "user"), (606, Kind.CONFIGURATION, "warehouse"), (3001, Kind.CONFIGURATION, "Grant"),
     (100038, Kind.CONFIGURATION, "value"), (250001, Kind.TRANSIENT, "reach"), (604, Kind.SYSTEM, "history")],
)  # fmt: skip
def test_what_the_account_refuses_is_sorted(number: int, kind: Kind, word: str) -> None:
    from snowflake.connector.errors import DatabaseError

    told = fault(DatabaseError("no to hidden-word", errno=number), SnowflakeSpec.model_validate(GIVEN), "asking failed")
    assert (told.kind, word in (told.fix or ""), "hidden-word" in told.message) == (kind, True, False)


def test_a_missing_library_says_what_to_install(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    destination = SnowflakeDestination(SnowflakeSpec.model_validate(GIVEN), context)
    failed = first_failure(destination.check())
    assert failed is not None
    assert (failed.name, "pip install snowflake-connector-python" in failed.fix) == ("library", True)
    with pytest.raises(EngineError, match="not installed"):
        destination.open().__enter__()


def test_the_form_loads_without_the_library() -> None:
    code = (
        "import sys; from webapp.engine.connectors.registry import spec_class;"
        "spec_class('destination', 'snowflake').model_json_schema();"
        "sys.exit(bool({'snowflake', 'pyarrow', 'duckdb'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
