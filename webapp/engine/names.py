"""Names that users choose, made safe for SQL."""

from dataclasses import dataclass


def quoted(name: str) -> str:
    """Return a name as a quoted SQL identifier, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a quoted SQL literal, for the few places where a value cannot be bound."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class TableName:
    """A table and the schema that it lies in."""

    schema: str
    table: str

    @classmethod
    def parse(cls, text: str) -> "TableName":
        """Split ``table`` or ``schema.table``; raise ValueError when a part is empty, too long or not printable."""
        parts = text.split(".")
        if len(parts) > 2:
            raise ValueError("a table name has at most one dot: table or schema.table")
        for part in parts:
            if not part.strip() or len(part) > 128 or not part.isprintable():
                raise ValueError("a table name has 1 to 128 printable characters on each side of the dot")
        return cls("main" if len(parts) == 1 else parts[0], parts[-1])

    @property
    def sql(self) -> str:
        """The name as quoted SQL."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    def __str__(self) -> str:
        return self.table if self.schema == "main" else f"{self.schema}.{self.table}"
