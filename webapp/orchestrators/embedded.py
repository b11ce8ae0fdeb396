"""The workers of this instance fly plain rockets by the clock (`webapp.rockets.flightplan`)."""

from webapp.orchestrators.airflow import flights
from webapp.rockets.models import Rocket
from webapp.rockets.operations import IN_THE_AIR, follow_plan, leave_plan


class EmbeddedWorkers:
    """Puts rockets on their flight plan, which every worker carries on."""

    def launch(self, rocket: Rocket) -> None:
        """From now, as a new flight."""
        flights.supersede(rocket)  # one that was handed to Airflow while there was one
        follow_plan(rocket)

    def abort(self, rocket: Rocket) -> None:
        """Take it off its plan."""
        flights.supersede(rocket)
        leave_plan(rocket)

    def is_flying(self, rocket: Rocket) -> bool:
        """In the air and on its plan; one that is flown by callers from outside may be launched."""
        return rocket.phase in IN_THE_AIR and rocket.next_step_at is not None
