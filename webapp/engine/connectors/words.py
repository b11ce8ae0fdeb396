"""Contract 002's words for types, without the weight of Arrow: web processes write catalog documents."""

from webapp.engine.connectors.base import Column

_WORDS = {
    "BOOLEAN": "boolean", "TINYINT": "integer_small", "SMALLINT": "integer_small", "INTEGER": "integer_small",
    "UTINYINT": "integer_small", "USMALLINT": "integer_small", "UINTEGER": "integer", "BIGINT": "integer",
    "UBIGINT": "integer", "HUGEINT": "string", "FLOAT": "number_small", "DOUBLE": "number", "DATE": "timestamp",
    "TIMESTAMP": "timestamp_micro", "TIMESTAMP_NS": "timestamp_nano", "TIMESTAMP WITH TIME ZONE": "timestamp_micro",
    "BLOB": "binary",
}  # fmt: skip


def json_words(column: Column) -> list[str]:
    """The column's type in the catalog documents of contract 002: `["integer", "null"]`."""
    if column.type.endswith("[]"):
        word = "array"
    elif column.type.startswith("STRUCT("):
        word = "object"
    elif column.type.startswith("DECIMAL("):
        word = "number"
    else:
        word = _WORDS.get(column.type, "string")
    return [word, "null"] if column.nullable else [word]
