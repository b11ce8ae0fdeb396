"""What a DuckDB destination is told."""

from pydantic import AliasChoices, Field, field_validator

from webapp.engine.connectors.base import ConnectorSpec

WAREHOUSE = "warehouse"


class DuckDBDestinationSpec(ConnectorSpec):
    """A DuckDB file, or the instance's own warehouse."""

    path: str = Field(
        title="File",
        description="The DuckDB file, made when it is not there; a relative path begins at the data folder. "
        "The word warehouse means this instance's own file.",
        examples=["lake.duckdb", WAREHOUSE],
        min_length=1,
        max_length=1024,
        validation_alias=AliasChoices("path", "db_path", "database_path"),
    )
    schema_name: str = Field(
        "main",
        title="Schema",
        description="Where tables go whose stream names no database of its own.",
        min_length=1,
        max_length=128,
        alias="schema",
    )

    @field_validator("path")
    @classmethod
    def _a_file(cls, path: str) -> str:
        if path.strip() == ":memory:":
            raise ValueError("a destination in memory would keep nothing; name a file")
        return path.strip()

    def endpoint(self) -> str:
        """The file."""
        return self.path
