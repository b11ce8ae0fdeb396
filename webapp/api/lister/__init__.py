"""The JSON doors of contract 004, which answer as Django REST framework does: jobs, and the log of their statuses."""

from webapp.api.lister import jobs, root, statuses
from webapp.api.lister.door import ANONYMOUS_DOORS, anonymous, door
from webapp.api.lister.health import health_door
from webapp.api.lister.refusal import OURS, refusal
from webapp.guard import STAND_INS
from webapp.refusals import DIALECTS, ROOT_DIALECTS

DIALECTS.update(dict.fromkeys(OURS, refusal))
ROOT_DIALECTS["/api/"] = refusal
STAND_INS[ANONYMOUS_DOORS] = anonymous

__all__ = ["door", "health_door", "jobs", "root", "statuses"]
