"""Names that users choose, made safe for SQL."""

from dataclasses import dataclass, replace


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
    file: str = ""  # DuckDB's name of the file, where the schema has the same and would be ambiguous

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
        return ".".join(quoted(part) for part in (self.file, self.schema, self.table) if part)

    def within(self, file: str) -> "TableName":
        """The name in a file that DuckDB calls so."""
        return replace(self, file=file if file.lower() == self.schema.lower() else "")

    def __str__(self) -> str:
        return self.table if self.schema == "main" else f"{self.schema}.{self.table}"
