"""Who gets plain rockets into the air: the interface. Who it is, is decided above (`webapp.orchestrators`).

For runs the interface is the queue itself: whoever executes one holds its lease, reports under it and ends it
(`webapp.runs.queue`), be it a child of a worker or a task of Airflow.
"""

from typing import Protocol

from flask import current_app

from webapp.rockets.models import Rocket


class Orchestrator(Protocol):
    """Flies rockets that carry no job. Each call is part of the unit of work that asks for it."""

    def launch(self, rocket: Rocket) -> None:
        """Have the rocket flown, as the flight `rocket.airflow_dag_run_id`; a flight of it that was under way ends."""
        ...

    def abort(self, rocket: Rocket) -> None:
        """End the rocket's flight, wherever it is carried out; a rocket without one stays as it is."""
        ...

    def is_flying(self, rocket: Rocket) -> bool:
        """Whether somebody flies the rocket now, so that it cannot be launched again."""
        ...


def orchestrator() -> Orchestrator:
    """The orchestrator of the present instance."""
    found: Orchestrator = current_app.extensions["orchestrator"]
    return found
