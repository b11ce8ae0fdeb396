"""Tables that someone else wrote: Parquet files in a folder, without a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.parquet.quill import Piece
from webapp.engine.connectors.parquet.store import Manifest

if TYPE_CHECKING:
    import pyarrow as pa


def foreign_manifest(table: Path) -> Manifest | None:
    """What a folder's Parquet files hold together, None when there are none. Raises pyarrow's errors."""
    import pyarrow.parquet as pq

    files = sorted(path for path in table.rglob("*.parquet") if path.is_file())
    footers = [(path, pq.read_metadata(path)) for path in files]
    pieces = [Piece(str(path.relative_to(table)), found.num_rows, path.stat().st_size) for path, found in footers]
    return manifest_of(pieces, [found.schema.to_arrow_schema() for _, found in footers])


def manifest_of(pieces: list[Piece], schemas: list[pa.Schema]) -> Manifest | None:
    """The manifest that some files would have."""
    import pyarrow as pa

    from webapp.engine.connectors.types import duckdb_type

    if not pieces:
        return None
    schema = pa.unify_schemas([one.remove_metadata() for one in schemas], promote_options="permissive")
    columns = tuple(Column(field.name, _own_words(field.type) or duckdb_type(field.type)) for field in schema)
    return Manifest(columns, {}, tuple(pieces))


def _own_words(kind: pa.DataType) -> str:
    if str(kind) == "extension<arrow.uuid>":
        return "UUID"
    return "JSON" if str(kind).startswith("extension<arrow.json") else ""
