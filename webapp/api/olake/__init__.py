"""The JSON doors of contract 002: log-in, sources, destinations, and the jobs that move data between them."""

from webapp.api.olake import auth, connections, jobs, specs, streams, tasks
from webapp.api.olake.door import door
from webapp.api.olake.envelope import OURS, refusal
from webapp.refusals import DIALECTS

DIALECTS.update(dict.fromkeys(OURS, refusal))

__all__ = ["auth", "connections", "door", "jobs", "specs", "streams", "tasks"]
