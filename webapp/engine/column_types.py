"""The grammar of column types that a user may declare; whatever is outside it never reaches SQL."""

import re

_PLAIN = {
    "BOOLEAN": "BOOLEAN",
    "BOOL": "BOOLEAN",
    "LOGICAL": "BOOLEAN",
    "TINYINT": "TINYINT",
    "INT1": "TINYINT",
    "SMALLINT": "SMALLINT",
    "INT2": "SMALLINT",
    "SHORT": "SMALLINT",
    "INTEGER": "INTEGER",
    "INT": "INTEGER",
    "INT4": "INTEGER",
    "SIGNED": "INTEGER",
    "BIGINT": "BIGINT",
    "INT8": "BIGINT",
    "LONG": "BIGINT",
    "HUGEINT": "HUGEINT",
    "UHUGEINT": "UHUGEINT",
    "UTINYINT": "UTINYINT",
    "USMALLINT": "USMALLINT",
    "UINTEGER": "UINTEGER",
    "UBIGINT": "UBIGINT",
    "REAL": "FLOAT",
    "FLOAT": "FLOAT",
    "FLOAT4": "FLOAT",
    "DOUBLE": "DOUBLE",
    "FLOAT8": "DOUBLE",
    "DOUBLE PRECISION": "DOUBLE",
    "DECIMAL": "DECIMAL(18,3)",
    "NUMERIC": "DECIMAL(18,3)",
    "VARCHAR": "VARCHAR",
    "TEXT": "VARCHAR",
    "STRING": "VARCHAR",
    "CHAR": "VARCHAR",
    "BPCHAR": "VARCHAR",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP": "TIMESTAMP",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP_S": "TIMESTAMP_S",
    "TIMESTAMP_MS": "TIMESTAMP_MS",
    "TIMESTAMP_NS": "TIMESTAMP_NS",
    "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP WITH TIME ZONE",
    "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
    "TIME WITH TIME ZONE": "TIME WITH TIME ZONE",
    "TIMETZ": "TIME WITH TIME ZONE",
    "INTERVAL": "INTERVAL",
    "UUID": "UUID",
    "BLOB": "BLOB",
    "BYTEA": "BLOB",
    "JSON": "JSON",
}
_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC|DEC) ?\( ?(\d{1,2}) ?(?:, ?(\d{1,2}) ?)?\)")
_SIZED_TEXT = re.compile(r"(?:VARCHAR|CHAR|BPCHAR|TEXT|STRING|CHARACTER VARYING) ?\( ?\d{1,9} ?\)")
_LISTS = re.compile(r"((?: ?\[ ?\])*)$")


def parse_column_type(text: str) -> str:
    """Return a declared type in DuckDB's own spelling, for example ``decimal(10, 2)`` as ``DECIMAL(10,2)``.

    Takes scalar types with their usual aliases, DECIMAL with precision and scale, and lists of these (``VARCHAR[]``).
    Raises ValueError for everything else.
    """
    spelled = " ".join(text.upper().split())
    lists = _LISTS.search(spelled)
    depth = lists.group(1).count("[") if lists else 0
    base = spelled[: lists.start()].strip() if lists else spelled
    return _scalar(base, text) + "[]" * depth


def _scalar(base: str, text: str) -> str:
    if base in _PLAIN:
        return _PLAIN[base]
    if _SIZED_TEXT.fullmatch(base):
        return "VARCHAR"
    if found := _DECIMAL.fullmatch(base):
        precision, scale = int(found.group(1)), int(found.group(2) or 0)
        if 1 <= precision <= 38 and scale <= precision:
            return f"DECIMAL({precision},{scale})"
        raise ValueError(f"{text!r}: DECIMAL takes a precision of 1 to 38 and a scale not above it")
    raise ValueError(
        f"{text!r} is not a known column type; known are for example BIGINT, DOUBLE, DECIMAL(18,3), VARCHAR, DATE, "
        "TIMESTAMP, TIMESTAMP WITH TIME ZONE, BOOLEAN, and lists such as VARCHAR[]"
    )
