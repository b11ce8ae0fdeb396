"""The shape of a connector: a source yields Arrow record batches, a destination takes them.

Loads without DuckDB, PyArrow and drivers: a web process shows forms and checks configurations without carrying them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin

if TYPE_CHECKING:
    import pyarrow as pa


STAGED_HOURS = 24
"""How long what an interrupted load has put aside waits for another that goes on with it."""


class ConnectorSpec(BaseModel):
    """A connector's configuration; its JSON Schema is the form. Secrets are SecretStr fields.

    Keys that no field knows are ignored: clients of contract 002 send some that belong to other engines.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    def endpoint(self) -> str:
        """Where the configuration leads, for example host and port; when it changes, masked secrets are cleared."""
        return ""


Config = TypeVar("Config", bound=ConnectorSpec)


class Mode(StrEnum):
    """How a stream is kept, in OLake's words; `incremental` appends, or upserts where a key is chosen."""

    FULL_REFRESH = "full_refresh"
    INCREMENTAL = "incremental"
    CDC = "cdc"


class Write(StrEnum):
    """What a load does to its table."""

    REPLACE = "replace"
    APPEND = "append"
    UPSERT = "upsert"


@dataclass(frozen=True)
class Column:
    """A column of a stream. `type` is a DuckDB type text: BIGINT, DECIMAL(10,2), VARCHAR, TIMESTAMP WITH TIME ZONE,
    UUID, JSON, INTEGER[], STRUCT(a INTEGER) ...; `native` is the source's own word for it, for people.
    """

    name: str
    type: str
    nullable: bool = True
    native: str = ""


@dataclass(frozen=True)
class Stream:
    """What a source can give: a table, a collection, a set of files, a list of an API."""

    namespace: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    cursor_fields: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = (Mode.FULL_REFRESH,)
    rows: int | None = None
    size_bytes: int | None = None

    @property
    def label(self) -> str:
        """The name with its namespace, as people and logs say it."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


@dataclass(frozen=True)
class Condition:
    """One comparison of a filter. `op` is one of = != < <= > >=; `value` is None for null."""

    column: str
    op: str
    value: str | int | float | bool | None


@dataclass(frozen=True)
class Filter:
    """Up to many conditions, joined by one word: `and` or `or`."""

    conditions: tuple[Condition, ...]
    join: str = "and"


@dataclass(frozen=True)
class Read:
    """What to read of a stream: these columns, rows that pass the filter and lie in the cursor's window.

    The window is closed at both ends: `since` <= cursor <= `until`; None leaves an end open. Values are JSON-able, as
    `high_water` gave them.
    """

    stream: Stream
    columns: tuple[Column, ...]
    filter: Filter | None = None
    cursor: str | None = None
    since: Any = None
    until: Any = None


@dataclass(frozen=True)
class Chunk:
    """A part of a read that one connection reads alone. `bounds` is the source's own, JSON-able."""

    name: str
    bounds: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None


@dataclass(frozen=True)
class Sum:
    """What a column adds up to: how many rows have a value, and the exact sum of these as decimal text."""

    values: int
    total: str


@dataclass(frozen=True)
class Staged:
    """A chunk that an interrupted load has left aside. `name` is the writer's own, `mark` what the source said."""

    name: str
    chunk: Chunk
    rows: int
    mark: Mapping[str, Any]


@dataclass(frozen=True)
class CheckStep:
    """One step of a test: resolve, connect, TLS, log in, rights, read one row, write. `fix` says what would help."""

    name: str
    ok: bool
    message: str = ""
    fix: str = ""
    seconds: float = 0.0


class ReadAgain(EngineError):
    """Rows have shown the source that it must read otherwise: those given so far are void, another read gives all."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, origin=Origin.SOURCE, kind=Kind.SYSTEM, permanent=False, **facts)


class Source(ABC, Generic[Config]):
    """One configured source."""

    name: ClassVar[str]  # as in contract 002: postgres, mysql ...
    title: ClassVar[str]
    Spec: ClassVar[type[ConnectorSpec]]
    offers_sums: ClassVar[bool] = False

    def __init__(self, config: Config, context: Context) -> None:
        self.config = config
        self.context = context

    @abstractmethod
    def check(self) -> Iterator[CheckStep]:
        """Test step by step; the last step yielded is the first that failed. Never raises for the system's refusals."""

    @abstractmethod
    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield streams as they are found; `pattern` narrows by glob over `namespace.name`. Raises EngineError."""

    @abstractmethod
    def open(self, *, parallel: int) -> AbstractContextManager[SourceSession]:
        """A consistent view of the source for up to `parallel` connections. Raises EngineError."""

    def open_beside(self, destination: DestinationSession, *, parallel: int) -> AbstractContextManager[SourceSession]:
        """As `open`, while this destination is held, which may be the same file. Raises EngineError."""
        return self.open(parallel=parallel)


class SourceSession(ABC):
    """A view of the source that does not change while it is read, where the system can do that.

    `read` is called from several threads at once, one chunk each. `relays` says that writers of its own kind may know a
    short way for its rows.
    """

    relays: ClassVar[bool] = False

    def high_water(self, read: Read) -> Any:
        """The greatest cursor value among the rows of `read` now, JSON-able; None when there are none.

        Raises EngineError for a source that offers no cursors.
        """
        raise EngineError(
            f"{read.stream.label} has no cursor to go on from", origin=Origin.SOURCE, fix="Choose a full refresh."
        )

    def count(self, read: Read) -> int | None:
        """How many rows `read` has, where counting is cheap; else None."""
        return None

    def fields(self, read: Read) -> Collection[str]:
        """The fields that the rows read so far have brought, where only reading tells which there are; else none."""
        return ()

    def count_exactly(self, read: Read) -> int | None:
        """How many rows `read` has, whatever it costs; None where nobody can tell."""
        return self.count(read)

    def counting(self, read: Read, *, exactly: bool = False) -> Callable[[], int | None]:
        """Begin to count the rows that `read` has now; what waits for the number may be called beside `read`."""
        found = self.count_exactly(read) if exactly else self.count(read)
        return lambda: found

    def sums(self, read: Read, columns: Sequence[str]) -> Mapping[str, Sum]:
        """What these columns of `read` add up to. Raises EngineError, also where the source does not offer sums."""
        raise EngineError(
            f"{read.stream.label}: sums cannot be asked of this source", origin=Origin.SOURCE, fix="Leave them out."
        )

    def chunks(self, read: Read, *, parallel: int) -> Sequence[Chunk]:
        """The parts of a read, about equal in work; one when the stream is small or cannot be divided."""
        return [Chunk("all")]

    def proves(self, read: Read) -> bool:
        """Whether an interrupted load of this read may go on: `mark`, `unchanged`, `rest` and `floor` answer then."""
        return False

    def mark(self, read: Read, chunk: Chunk) -> Mapping[str, Any] | None:
        """What `unchanged` needs of this session to compare a chunk that was read in it, JSON-able; None: it cannot."""
        return None

    def unchanged(self, read: Read, staged: Staged) -> bool:
        """Whether a chunk of an earlier session holds the same rows in this one, found out without fetching them."""
        return False

    def rest(self, read: Read, kept: Sequence[Chunk], *, parallel: int) -> Sequence[Chunk]:
        """The parts of a read besides those chunks of an earlier session."""
        return self.chunks(read, parallel=parallel)

    def floor(self, read: Read, rows: int) -> Any:
        """The smallest of the greatest `rows` cursor values, JSON-able; None when there are fewer."""
        return None

    @abstractmethod
    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """The rows of a chunk with exactly the columns of `read`, typed as `types.arrow_schema(read.columns)` says.

        Raises EngineError, also while batches are pulled; ReadAgain when the stream has to be read anew.
        """


@dataclass(frozen=True)
class Target:
    """The table that a load writes, by the names that the destination shall use."""

    database: str  # a schema, namespace or folder; "" for the destination's default
    table: str

    @property
    def label(self) -> str:
        """The name as people and logs say it."""
        return f"{self.database}.{self.table}" if self.database else self.table


@dataclass(frozen=True)
class Partition:
    """How rows are laid out: a column, or a transform of it (year, month, day, hour, bucket, truncate)."""

    column: str
    transform: str = "identity"
    width: int | None = None


@dataclass(frozen=True)
class Load:
    """What a writer is asked to do. `columns` bear the destination's column names.

    `fingerprint` says what is read and how, where an interrupted load may be gone on with: only what was put aside
    under the same one may be.
    """

    target: Target
    write: Write
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partitions: tuple[Partition, ...] = ()
    run_id: str = ""
    keep_days: int = 3
    fingerprint: str = ""
    sums: tuple[str, ...] = ()


@dataclass(frozen=True)
class Landed:
    """What a commit left: rows written by it, rows of the load found in the table afterwards, the table's total.

    `found` counts what the load should have left: the table after a replace, the growth after an append, the rows with
    the load's keys after an upsert. `generation` names what the parachute can bring back, "" when nothing was kept.
    `sums` are those of the columns that the load names, over the rows that `found` counts.
    """

    written: int
    found: int
    total: int
    bytes_written: int = 0
    generation: str = ""
    sums: Mapping[str, Sum] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """An earlier content of a table that can be brought back. `at` is RFC 3339."""

    name: str
    at: str
    rows: int | None = None
    size_bytes: int | None = None


class Destination(ABC, Generic[Config]):
    """One configured destination."""

    name: ClassVar[str]
    title: ClassVar[str]
    Spec: ClassVar[type[ConnectorSpec]]
    parallel_writes: ClassVar[bool] = True
    offers_sums: ClassVar[bool] = False

    def __init__(self, config: Config, context: Context) -> None:
        self.config = config
        self.context = context

    @abstractmethod
    def check(self) -> Iterator[CheckStep]:
        """Test step by step, writing and removing something small. Never raises for the system's refusals."""

    @abstractmethod
    def open(self) -> AbstractContextManager[DestinationSession]:
        """Connect, and hold what a load needs (a file's lock) until the block ends. Raises EngineError."""


class DestinationSession(ABC):
    """A connection to the destination, used by one run."""

    @abstractmethod
    def state(self, target: Target) -> dict[str, Any] | None:
        """The state that the last commit to this table left, None when there is none."""

    @abstractmethod
    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """The table's columns now, None when there is no such table."""

    @abstractmethod
    def begin(self, load: Load) -> Writer:
        """Make ready to write aside: nothing that readers see changes before `commit`. Raises EngineError."""

    def generations(self, target: Target) -> list[Generation]:
        """What the parachute can bring back, newest first."""
        return []

    def restore(self, target: Target, generation: str, state: Mapping[str, Any] | None) -> Landed:
        """Bring an earlier content back in one step, with this state. Raises EngineError."""
        raise EngineError(f"no earlier content of {target.label} is kept here", origin=Origin.DESTINATION)

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows of the table. Raises EngineError where tables cannot be looked into."""
        raise EngineError(f"the rows of {target.label} cannot be shown here", origin=Origin.DESTINATION)


@dataclass(frozen=True)
class Relayed:
    """What became of a chunk: rows as the source counted them, rows as the destination did, bytes that moved."""

    read: int
    written: int
    size: int


class Relay(ABC):
    """The short way between two systems that share a form of rows: nothing is decoded. Used by several threads."""

    @abstractmethod
    def pass_on(self, chunk: Chunk, moved: Callable[[int], None]) -> Relayed:
        """Bring one chunk's rows aside; `moved` hears of bytes, and raises when the run shall stop.

        Raises EngineError.
        """


class Writer(ABC):
    """Writes one load. `write` may be called from several threads when the destination's `parallel_writes` is set."""

    def relay(self, source: SourceSession, read: Read) -> Relay | None:
        """The short way from this source for these very rows and columns; None when they go as batches."""
        return None

    @abstractmethod
    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Take the rows of one chunk aside; returns how many. Raises EngineError."""

    @abstractmethod
    def commit(self, state: Mapping[str, Any]) -> Landed:
        """Make all rows and the state visible in one step. Raises EngineError; nothing has changed then."""

    @abstractmethod
    def abort(self) -> None:
        """Forget what was written aside. Never raises."""

    def staged(self) -> Sequence[Staged]:
        """The noted chunks that an interrupted load of the same fingerprint left aside."""
        return ()

    def resume(self, kept: Sequence[Staged]) -> None:  # noqa: B027  nothing to do where `staged` is empty
        """Go on with these chunks; other rows that were left aside shall not land. Raises EngineError."""

    def note(self, chunk: Chunk, mark: Mapping[str, Any]) -> None:  # noqa: B027  a writer need not remember
        """Remember that this chunk has been written, for a load that goes on after this one. Raises EngineError."""

    def interrupt(self) -> None:
        """End without landing, but leave the noted chunks for another load. Never raises."""
        self.abort()


def first_failure(steps: Iterable[CheckStep]) -> CheckStep | None:
    """The step that failed, None when all went well."""
    return next((step for step in steps if not step.ok), None)
