"""One load: Parquet files go to a stage, COPY brings them into a table aside, and one step makes them visible."""

# ruff: noqa: S608  names are quoted by columns.quoted, texts by columns.literal

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from webapp.engine.connectors.base import Chunk, Column, Landed, Load, Write, Writer
from webapp.engine.connectors.keys import check_key, check_no_nulls
from webapp.engine.connectors.snowflake import contents
from webapp.engine.connectors.snowflake.account import Account
from webapp.engine.connectors.snowflake.columns import MARK, comment, definition, folded, literal, native_type, quoted
from webapp.engine.connectors.snowflake.contents import Place
from webapp.engine.connectors.types import arrow_type
from webapp.engine.connectors.written import as_text
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

if TYPE_CHECKING:
    from webapp.engine.drift import Drift

_FILE_BYTES = 128 << 20
_ORDER = Column("_HOHMANN_CAME", "BIGINT")
_WIDER = {"UTINYINT": "SMALLINT", "USMALLINT": "INTEGER", "UINTEGER": "BIGINT", "UBIGINT": "DECIMAL(20,0)"}


class SnowflakeWriter(Writer):
    """Writes one chunk after the other over a session of its own."""

    def __init__(self, account: Account, place: Place, load: Load) -> None:
        self._account = account
        self._place = place
        self._load = load
        self._upsert = load.write is Write.UPSERT
        self._token = contents.new_token()
        self._stage = place.own(f"STAGE_{self._token.upper()}")
        self._made = place.own(f"MADE_{self._token.upper()}")
        self._have: contents.Table | None = None
        self._noted: contents.Noted | None = None
        self._drift: Drift | None = None
        self._columns = tuple(load.columns)
        self._rows = self._bytes = self._files = 0
        account.context.temp.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="snowflake-", dir=account.context.temp))

    def begin(self) -> None:
        """Make the stage and the table aside. Raises EngineError when rows of this shape cannot go into the table."""
        check_key(self._load)
        account = self._account
        account.do(*contents.preparations(self._place))
        self._have = contents.table(account, self._place)
        if self._have is not None and not self._have.base:
            raise _refused(f"{self._load.target.label} is not a table", "Choose another name for the stream's table.")
        if self._have is not None and self._load.write is not Write.REPLACE:
            self._noted = contents.noted(account, self._place, self._have.token)
            self._plan(self._have)
        order = (_ORDER,) if self._upsert else ()
        account.do(f"CREATE STAGE {self._stage.sql}", self._creation(self._stage, (*self._columns, *order)))

    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Send a chunk's rows as files of about 128 MB."""
        before, waiting, size = self._rows, [], 0
        for batch in batches:
            if self._account.context.cancelled():
                raise Cancelled
            waiting.append(self._sent(batch))
            self._rows += batch.num_rows
            size += batch.nbytes
            if size >= _FILE_BYTES:
                self._send(waiting)
                waiting, size = [], 0
        if waiting:
            self._send(waiting)
        return self._rows - before

    def commit(self, state: Mapping[str, Any]) -> Landed:
        """Rows and state by a swap, or in one transaction."""
        if self._files:
            self._account.do(
                f"COPY INTO {self._stage.sql} FROM @{self._stage.sql} FILE_FORMAT = (TYPE = PARQUET"
                " USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE) MATCH_BY_COLUMN_NAME = CASE_SENSITIVE"
                " ON_ERROR = ABORT_STATEMENT"
            )
        if self._upsert:
            absent = " OR ".join(f"{quoted(name)} IS NULL" for name in self._load.key)
            check_no_nulls(self._load, self._account.number(f"SELECT COUNT_IF({absent}) FROM {self._stage.sql}"))
        found, total = self._put(state) if self._drift is None else self._merge(state)
        self.abort()
        return Landed(self._rows, found, total, self._bytes)

    def abort(self) -> None:
        """Drop what was made aside, as far as the account answers."""
        for kind, place in (("TABLE", self._stage), ("TABLE", self._made), ("STAGE", self._stage)):
            with suppress(EngineError):
                self._account.do(f"DROP {kind} IF EXISTS {place.sql}")
        self._account.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _plan(self, have: contents.Table) -> None:
        from webapp.engine import drift

        label = self._load.target.label
        bring = {column.name.lower() for column in self._columns}
        if strange := [one for one in have.strange if one.name.lower() in bring]:
            raise _refused(
                f"column {strange[0].name} of {label} is {strange[0].native}, which loads do not write",
                "Leave the column out, load once with full refresh, or load into another table.",
            )
        known = [drift.Column(one.name, one.type) for one in have.columns if one not in have.strange]
        come = [drift.Column(one.name, one.type) for one in self._columns]
        self._drift = drift.plan_drift(known, come, label)
        casts = self._drift.casts
        self._columns = tuple(replace(one, type=casts.get(one.name, one.type)) for one in self._columns)

    def _creation(self, place: Place, columns: Sequence[Column]) -> str:
        inner = ", ".join(definition(column) for column in columns)
        return f"CREATE TABLE {place.sql} ({inner}) COMMENT = {literal(MARK + self._token)}"

    def _sent(self, batch: pa.RecordBatch) -> pa.Table:
        arrays = [_fit(array, column) for array, column in zip(batch.columns, self._columns, strict=True)]
        names = [folded(column.name) for column in self._columns]
        if self._upsert:
            arrays.append(pa.array(range(self._rows, self._rows + batch.num_rows), pa.int64()))
            names.append(_ORDER.name)
        return pa.Table.from_arrays(arrays, names)

    def _send(self, tables: list[pa.Table]) -> None:
        self._files += 1
        file = self._folder / f"{self._files:06}.parquet"
        pq.write_table(pa.concat_tables(tables), file, compression="zstd")
        self._bytes += file.stat().st_size
        self._account.do(f"PUT {literal(f'file://{file}')} @{self._stage.sql} AUTO_COMPRESS = FALSE")
        file.unlink()

    def _put(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """A new table under the table's name, whose state is noted before anybody sees it."""
        account, new = self._account, self._stage
        if self._upsert:
            new = self._made
            account.do(self._creation(new, self._columns), self._insertion(new))
        found = account.number(f"SELECT COUNT(*) FROM {new.sql}")
        run_id = self._load.run_id
        contents.change(account, self._place, self._token, state, run_id=run_id, known=None)
        if self._have is None:
            account.do(f"ALTER TABLE {new.sql} RENAME TO {self._place.sql}")
        else:
            account.do(f"ALTER TABLE {self._place.sql} SWAP WITH {new.sql}")
            self._forget(self._have.token)
        return found, found

    def _merge(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """The rows into the table, and its state, in one transaction."""
        assert self._have is not None
        account, table = self._account, self._place.sql
        token = self._have.token or self._token
        # Definitions commit by themselves: when the load fails behind them, the wider table stays.
        account.do(*self._definitions(token))
        same = " AND ".join(f"t.{self._there(name)} = s.{quoted(name)}" for name in self._load.key)
        with account.transaction():
            if self._upsert:
                account.do(f"DELETE FROM {table} t USING {self._stage.sql} s WHERE {same}")
            found = account.do(self._insertion(self._place))
            if not self._upsert and found != self._rows:
                raise _refused(f"{found} rows of the load arrived in {self._load.target.label}", "Run the load again.")
            run_id = self._load.run_id
            contents.change(account, self._place, token, state, run_id=run_id, known=self._noted)
            total = account.number(f"SELECT COUNT(*) FROM {table}")
        return found, total

    def _definitions(self, token: str) -> list[str]:
        """What the table has to learn; a column that stays as it is may need another note of its type."""
        assert self._have is not None and self._drift is not None
        table, statements = self._place.sql, []
        if not self._have.token:
            statements.append(f"COMMENT ON TABLE {table} IS {literal(MARK + token)}")
        statements += [
            f"ALTER TABLE {table} ADD COLUMN {definition(Column(c.name, c.type))}" for c in self._drift.added
        ]
        for one, wide in self._drift.widened:
            column = f"ALTER TABLE {table} ALTER COLUMN {self._there(one.name)}"
            statements.append(f"{column} SET DATA TYPE {native_type(wide)}")
            statements.append(f"{column}{comment(wide) or ' UNSET COMMENT'}")
        return statements

    def _insertion(self, into: Place) -> str:
        names = ", ".join(self._there(column.name) for column in self._columns)
        values = ", ".join(quoted(column.name) for column in self._columns)
        keys = ", ".join(map(quoted, self._load.key))
        ranked = f"ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {quoted(_ORDER.name)} DESC)"
        last = f" QUALIFY {ranked} = 1" if self._upsert else ""
        return f"INSERT INTO {into.sql} ({names}) SELECT {values} FROM {self._stage.sql}{last}"

    def _there(self, name: str) -> str:
        return quoted(self._have.named(name) if self._have and self._drift else name)

    def _forget(self, token: str) -> None:
        with suppress(EngineError):  # the load has landed
            self._account.do(f"DELETE FROM {self._place.ledger} WHERE token = {literal(token)}")


def _fit(array: pa.Array, column: Column) -> pa.Array:
    """The values as Snowflake's reader of Parquet takes them: it knows no unsigned integers."""
    text = _WIDER.get(column.type, column.type)
    wanted = pa.string() if native_type(text) == "VARCHAR" or text == "TIME" else arrow_type(text)
    if array.type == wanted:
        return array
    return as_text(array) if wanted == pa.string() else array.cast(wanted)


def _refused(message: str, fix: str) -> EngineError:
    return EngineError(message, origin=Origin.DESTINATION, kind=Kind.CONFIGURATION, fix=fix)
