"""What SQL Server's types become, and the SQL that brings each value over."""

from webapp.engine.connectors.base import Column

_PLAIN = {
    "bigint": "BIGINT", "int": "INTEGER", "smallint": "SMALLINT", "tinyint": "UTINYINT", "bit": "BOOLEAN",
    "money": "DECIMAL(19,4)", "smallmoney": "DECIMAL(10,4)", "float": "DOUBLE", "real": "FLOAT", "date": "DATE",
    "time": "TIME", "datetime": "TIMESTAMP", "smalldatetime": "TIMESTAMP", "datetime2": "TIMESTAMP",
    "datetimeoffset": "TIMESTAMP WITH TIME ZONE", "uniqueidentifier": "UUID", "binary": "BLOB", "varbinary": "BLOB",
    "image": "BLOB", "timestamp": "BLOB", "json": "JSON",
}  # fmt: skip
_CLR = frozenset({"geometry", "geography", "hierarchyid"})
_AS_TEXT = frozenset({"sql_variant", "xml", "json", "ntext", "text"})
CURSORS = frozenset(
    {"bigint", "int", "smallint", "tinyint", "date", "datetime", "smalldatetime", "datetime2", "datetimeoffset"}
)
"""The native types by which a stream can go on where it ended."""


def column_of(name: str, native: str, precision: int, scale: int, nullable: bool) -> Column:
    """The column of the stream; `native` is the catalog's word, with digits where it has some."""
    if native in ("decimal", "numeric"):
        return Column(name, f"DECIMAL({precision},{scale})", nullable, f"{native}({precision},{scale})")
    return Column(name, _PLAIN.get(native, "VARCHAR"), nullable, native)


def projection(column: Column) -> str:
    """The SQL expression that reads the column."""
    name = quoted(column.name)
    if column.native in _CLR:
        return f"{name}.ToString()"
    return f"CAST({name} AS nvarchar(max))" if column.native in _AS_TEXT else name


def quoted(name: str) -> str:
    """A name as a quoted identifier."""
    return "[" + name.replace("]", "]]") + "]"
