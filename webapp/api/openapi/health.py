"""Health, and this document itself."""

from typing import Any, Literal

from webapp.api.openapi.told import Answer, Chapter, Told


class WorkersShown(Answer):
    """The workers that are alive, and how many runs they execute at most."""

    alive: int
    busy: int
    slots: int


class HealthShown(Answer):
    """How database, queue and workers are."""

    status: Literal["ready", "degraded"]
    database: Literal["ok", "away"]
    workers: WorkersShown | None
    queued: int | None
    running: int | None


CHAPTER = Chapter(
    "Health",
    "For load balancers and monitors.",
    {
        "health.health": Told(HealthShown),
        "health.live": Told(HealthShown),
        "health.ready": Told(HealthShown, also={503: HealthShown}),
        "health.metrics": Told(str, media=("text/plain",), refuses=(401,)),
        "openapi.document": Told(dict[str, Any]),
    },
)
