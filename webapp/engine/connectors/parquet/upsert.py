"""Rows of an upsert against the files that are there: only files that hold one of the keys are written anew."""

# ruff: noqa: S608  names are quoted, values are literals made by names.literal

from collections.abc import Sequence
from pathlib import Path

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.parquet.faults import destination_fault
from webapp.engine.connectors.parquet.quill import Form, Quill, scan, sql_columns
from webapp.engine.names import quoted


def one_row_a_key(quill: Quill, fresh: Sequence[Path], key: Sequence[str], folder: Path, form: Form) -> None:
    """Where keys came twice, keep one row of each; refuse keys that are null. Changes the fresh files."""
    if not fresh:
        return
    names = ", ".join(quoted(name) for name in key)
    absent = " OR ".join(f"{quoted(name)} IS NULL" for name in key)
    with quill.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*), count(DISTINCT ({names})), count(*) FILTER ({absent}) FROM {scan(fresh)}",
        )
        total, distinct, null = cursor.fetchall()[0]
        if null:
            raise destination_fault(
                f"{quill.shown}: {null} rows have no value in the key ({', '.join(key)})",
                "Choose a key whose columns are never null, or switch to append.",
            )
        if total == distinct:
            return
        rows = scan(fresh, names=", filename = '__file', file_row_number = true")
        order = "__file DESC, file_row_number DESC"
        select = (
            f"SELECT * EXCLUDE (__file, file_row_number) FROM {rows}"
            f" QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY {order}) = 1"
        )
        quill.copy(cursor, select, folder, form)
    for file in fresh:
        file.unlink()


class Rewriter:
    """Decides for each old file whether it stays, and writes what is left of it when it does not."""

    def __init__(
        self, quill: Quill, columns: Sequence[Column], key: Sequence[str], fresh: Sequence[Path], *, all_files: bool
    ) -> None:
        self._quill = quill
        self._columns = columns
        self._key = key
        self._fresh = list(fresh)
        self._all = all_files

    def stays(self, file: Path) -> bool:
        """Whether a file keeps all its rows and its types."""
        return not self._all and not self._matches(file)

    def rest(self, file: Path, folder: Path, form: Form) -> int:
        """Write the rows of a file whose keys are not among the fresh ones; returns how many."""
        select = f"SELECT {sql_columns(self._columns)} FROM ({self._padded(file)}) AS old{self._joined('ANTI')}"
        with self._quill.cursor() as cursor:
            return self._quill.copy(cursor, select, folder, form)

    def _padded(self, file: Path) -> str:
        """The file's rows, with nulls in columns that are newer than the file."""
        have = {column.name for column in self._quill.columns([file])}
        lacking = "".join(f", NULL AS {quoted(c.name)}" for c in self._columns if c.name not in have)
        return f"SELECT *{lacking} FROM {scan([file])}"

    def _matches(self, file: Path) -> bool:
        if not self._fresh:
            return False
        have = {column.name for column in self._quill.columns([file])}
        if not set(self._key) <= have:
            return False
        with self._quill.cursor() as cursor:
            return (
                cursor.execute(f"SELECT 1 FROM {scan([file])} AS old{self._joined('SEMI')} LIMIT 1").fetchone()
                is not None
            )

    def _joined(self, kind: str) -> str:
        if not self._fresh or not self._key:
            return ""
        names = ", ".join(quoted(name) for name in self._key)
        same = " AND ".join(f"old.{quoted(name)} = fresh.{quoted(name)}" for name in self._key)
        return f" {kind} JOIN (SELECT {names} FROM {scan(self._fresh)}) AS fresh ON {same}"
