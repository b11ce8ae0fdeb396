"""Where Delta tables lie: the same fields as for Parquet files."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from webapp.engine.connectors.base import ConnectorSpec
from webapp.engine.connectors.parquet.spec import FolderOrS3, wrapped


class DeltaWriter(FolderOrS3):
    """A folder of this instance, or a bucket."""


class DeltaSpec(ConnectorSpec):
    """Delta Lake tables, one folder for each."""

    model_config = ConfigDict(title="Delta Lake", extra="ignore", frozen=True)
    type: Literal["DELTA"] = Field("DELTA", title="Format", description="Tables are Delta Lake.")
    writer: DeltaWriter = Field(title="Where", description="A bucket, or a folder of this instance.")

    @model_validator(mode="before")
    @classmethod
    def _wrapped(cls, value: Any) -> Any:
        """Take the flat form, too: the writer's fields without `writer` around them."""
        return wrapped(value, "DELTA")

    def endpoint(self) -> str:
        """The store and the bucket, or the folder."""
        writer = self.writer
        return f"{writer.s3_endpoint}/{writer.bucket}" if writer.bucket else writer.local_path
