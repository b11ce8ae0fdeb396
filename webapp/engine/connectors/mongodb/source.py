"""MongoDB as a source: collections are streams, their fields are found by a sample of the documents."""

import contextlib
import fnmatch
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.base import CheckStep, Chunk, Mode, Read, Source, SourceSession, Stream
from webapp.engine.connectors.mongodb.spec import MongoDBSpec, split_host
from webapp.engine.connectors.mongodb.values import columns_of, row_of
from webapp.engine.connectors.relations import checked
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 1000
BATCH_ROWS = 10_000
CONNECT_MILLISECONDS = 8_000
_DENIED = frozenset({18, 13, 8000})
_SIGNS = {"=": "$eq", "!=": "$ne", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}


class MongoDBSource(Source[MongoDBSpec]):
    """A database of a MongoDB deployment."""

    name = "mongodb"
    title = "MongoDB"
    Spec = MongoDBSpec

    def check(self) -> Iterator[CheckStep]:
        """Resolve, connect and log in, list the collections, read one document."""
        return tried(
            ("resolve", lambda: ", ".join(self._addresses())),
            ("log in", self._server_version),
            ("rights", lambda: f"{len(self._names()):,} collections"),
            ("read one row", self._read_one),
        )

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the collections with the fields of their first 1,000 documents."""
        with self._database() as database:
            for name in sorted(database.list_collection_names()):
                label = f"{self.config.database}.{name}"
                if name.startswith("system.") or (pattern and not fnmatch.fnmatchcase(label, pattern)):
                    continue
                columns = columns_of(database[name].find(limit=SAMPLE))
                rows = database[name].estimated_document_count()
                yield Stream(self.config.database, name, columns, ("_id",), (), (Mode.FULL_REFRESH,), rows)

    @contextlib.contextmanager
    def open(self, *, parallel: int) -> Iterator[SourceSession]:
        """A session; a collection that changes while it is read may show some documents before and some after."""
        with self._database() as database:
            yield MongoDBSession(self.context, database)

    def _addresses(self) -> list[str]:
        ends = [split_host(text) for text in self.config.hosts]
        allow = self.context.allow_private_addresses
        return [checked_address(host, port, allow_private=allow) for host, port in ends]

    @contextlib.contextmanager
    def _database(self) -> Iterator[Any]:
        import pymongo

        self._addresses()
        spec = self.config
        more: dict[str, Any] = {"replicaSet": spec.replica_set} if spec.replica_set else {}
        if spec.username:
            more |= {"username": spec.username, "password": spec.password.get_secret_value(), "authSource": spec.authdb}
        client: pymongo.MongoClient[Any] = pymongo.MongoClient(
            [f"{host}:{port}" for host, port in map(split_host, spec.hosts)],
            tls=spec.tls,
            tz_aware=True,
            serverSelectionTimeoutMS=CONNECT_MILLISECONDS,
            connectTimeoutMS=CONNECT_MILLISECONDS,
            readPreference=spec.read_preference,
            directConnection=not spec.replica_set and len(spec.hosts) == 1,
            **more,
        )
        try:
            yield client[spec.database]
        except pymongo.errors.PyMongoError as error:
            raise _fault(error, spec) from error
        finally:
            client.close()

    def _server_version(self) -> str:
        with self._database() as database:
            return str(database.command("buildInfo")["version"])

    def _names(self) -> list[str]:
        with self._database() as database:
            return [str(name) for name in database.list_collection_names()]

    def _read_one(self) -> str:
        names = self._names()
        if not names:
            return "no collection yet"
        with self._database() as database:
            database[names[0]].find_one()
        return names[0]


def _fault(error: Exception, spec: MongoDBSpec) -> EngineError:
    said = str(error).split(", Topology Description")[0]
    if secret := spec.password.get_secret_value():
        said = said.replace(secret, "[struck out]")
    code = getattr(error, "code", None)
    denied = code in _DENIED
    return EngineError(
        f"{spec.endpoint()}: {said[:500]}",
        origin=Origin.SOURCE,
        kind=Kind.CONFIGURATION if denied else Kind.TRANSIENT,
        fix="Check the user, the password and the login database."
        if denied
        else "Check that the server runs, its port, and that this machine reaches it.",
        code=code,
    )


class MongoDBSession(SourceSession):
    """Reads collections, one cursor each."""

    def __init__(self, context: Context, database: Any) -> None:
        self.context = context
        self.database = database

    def count(self, read: Read) -> int | None:
        """Count the documents that pass the filter."""
        return int(self.database[read.stream.name].count_documents(_query(read)))

    def read(self, read: Read, chunk: Chunk) -> "pa.RecordBatchReader":
        """The documents as batches of 10,000 rows."""
        import pyarrow as pa

        from webapp.engine.connectors.types import arrow_schema

        schema = arrow_schema(read.columns)
        return pa.RecordBatchReader.from_batches(schema, self._batches(read, schema))

    def _batches(self, read: Read, schema: "pa.Schema") -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        known = frozenset(column.name for column in read.stream.columns)
        rows: list[dict[str, Any]] = []
        for document in self.database[read.stream.name].find(_query(read), batch_size=BATCH_ROWS):
            rows.append(row_of(document, read.columns, known, read.stream.label))
            if len(rows) == BATCH_ROWS:
                if self.context.cancelled():
                    raise Cancelled
                yield pa.RecordBatch.from_pylist(rows, schema=schema)
                rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _query(read: Read) -> dict[str, Any]:
    if read.filter is None or not read.filter.conditions:
        return {}
    return {
        f"${read.filter.join}": [
            {checked(read, one).name: {_SIGNS[one.op]: one.value}} for one in read.filter.conditions
        ],
    }
