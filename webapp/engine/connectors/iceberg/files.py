"""The files of Iceberg tables, within what this instance may touch, whatever a catalog or a manifest names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from webapp.engine.connectors.parquet.bucket import checked_endpoint
from webapp.engine.connectors.parquet.faults import destination_fault
from webapp.engine.context import Context, Silence
from webapp.engine.errors import Origin
from webapp.engine.paths import allowed_path

BOUNDS = "hohmann.bounds"
_STORES = ("s3", "s3a", "s3n")


def bounds_of(context: Context) -> str:
    """Where the instance may read and write, as a property of a catalog."""
    roots = [str(root) for root in context.allowed_roots]
    return json.dumps([str(context.data_root), roots, context.allow_private_addresses])


class BoundedFileIO(PyArrowFileIO):
    """PyIceberg's own files, refused outside the allowed folders and stores."""

    def __init__(self, properties: dict[str, Any]) -> None:
        super().__init__(properties)
        data_root, roots, private = json.loads(properties[BOUNDS])
        self._context = Context(
            Path(data_root),
            tuple(Path(root) for root in roots),
            Path(data_root),
            Path(data_root),
            Silence(),
            allow_private_addresses=private,
        )
        if endpoint := properties.get("s3.endpoint"):
            checked_endpoint(endpoint, self._context)  # a REST catalog may have sent it

    def new_input(self, location: str) -> PyArrowFile:
        """A file to read. Raises EngineError where it may not be read."""
        return super().new_input(self._checked(location))

    def new_output(self, location: str) -> PyArrowFile:
        """A file to write. Raises EngineError where it may not be written."""
        return super().new_output(self._checked(location))

    def delete(self, location: Any) -> None:
        """Remove a file. Raises EngineError where it may not be touched."""
        self._checked(location if isinstance(location, str) else location.location)
        super().delete(location)

    def _initialize_s3_fs(self, netloc: str | None) -> Any:
        """The library's file system with parts written in their turn: waiting ones would hold whole files in memory."""
        build, (options,) = super()._initialize_s3_fs(netloc).__reduce__()
        return build({**options, "background_writes": False})

    def _checked(self, location: str) -> str:
        scheme, _, path = self.parse_location(location, self.properties)
        if scheme == "file":
            allowed_path(path, self._context, origin=Origin.DESTINATION)
        elif scheme not in _STORES:
            raise destination_fault(
                f"a file of the table lies in a store of the kind {scheme!r}",
                "Only S3 and allowed folders can be used.",
            )
        return location
