"""What is needed to read a DuckDB file."""

from pydantic import AliasChoices, Field

from webapp.engine.connectors.base import ConnectorSpec


class DuckDBSourceSpec(ConnectorSpec):
    """A DuckDB file on this machine."""

    path: str = Field(
        title="Database file",
        min_length=1,
        max_length=4096,
        validation_alias=AliasChoices("path", "database_path", "db_path", "database"),
        description="DuckDB file, relative to the data folder; it is opened for reading only.",
    )

    def endpoint(self) -> str:
        """The file."""
        return self.path
