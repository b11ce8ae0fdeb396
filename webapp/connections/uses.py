"""Who uses a connection. Jobs live in a room above this one, so that room says it when it is asked."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from webapp.connections.models import Connection
from webapp.notices import Notice


@dataclass(frozen=True)
class JobUse:
    """A job that reads from or writes to a connection; `other` is the connection at its other end."""

    id: uuid.UUID
    number: int
    name: str
    is_enabled: bool
    other_name: str
    other_type: str


JobsOf = Callable[[Sequence[Connection]], Mapping[uuid.UUID, Sequence[JobUse]]]

connection_created: Notice[Connection] = Notice()
connection_changed: Notice[Connection] = Notice()
#: Told within the unit of work that deletes it; jobs that use it are switched off by whoever listens.
connection_deleted: Notice[Connection] = Notice()

_answers: list[JobsOf] = []


def provide_jobs(jobs_of: JobsOf) -> JobsOf:
    """Let this function say, for many connections at once, which jobs use each (by connection id)."""
    if jobs_of not in _answers:
        _answers.append(jobs_of)
    return jobs_of


def jobs_using(connections: Sequence[Connection]) -> dict[uuid.UUID, list[JobUse]]:
    """The jobs that use each of these connections, by its id; an empty list for one that none uses."""
    found: dict[uuid.UUID, list[JobUse]] = {connection.id: [] for connection in connections}
    for jobs_of in _answers if connections else ():
        for connection_id, uses in jobs_of(connections).items():
            found[connection_id].extend(uses)
    return found
