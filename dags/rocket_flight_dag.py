"""Flies a rocket that carries no job: stage by stage, each of them told to Hohmann.

Started with the conf `{"job_id": "<the rocket's id>"}`. What is told is numbered, so that a task that Airflow repeats
tells nothing twice: Hohmann leaves out what it has heard.
"""

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException
from hohmann_api import Hohmann, Refused

PREPARING_SECONDS = 2
READY_SECONDS = 1
#: Parts of the way at which a rocket says where it is.
WAYPOINTS = ((0.1, "10 %"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (0.9, "90 %"))
#: The first number of what each stage says.
PREPARES, FLIES, LANDS, LOST = 1, 100, 200, 1000


class Flight:
    """The flight of this DAG run, as its tasks see it."""

    def __init__(self) -> None:
        context = get_current_context()
        self.dag_run_id = context["dag_run"].run_id
        self.path = f"/api/v1/job/{context['dag_run'].conf['job_id']}"
        self.hohmann = Hohmann.from_airflow()

    def look(self) -> dict[str, Any]:
        """The rocket as it is."""
        return self.hohmann.ask("GET", self.path)

    def say(self, number: int, **facts: Any) -> dict[str, Any]:
        """Tell something; a refusal ends the flight, because trying again would change nothing."""
        try:
            return self.hohmann.ask("PATCH", self.path, {**facts, "dag_run_id": self.dag_run_id, "sequence": number})
        except Refused as error:
            raise AirflowFailException(str(error)) from error

    def travel(self, number: int, seconds: int, towards: str) -> None:
        """Let the time pass, and tell at each waypoint where the rocket is."""
        began = time.monotonic()
        for at, (part, words) in enumerate(WAYPOINTS, start=number):
            time.sleep(max(0.0, began + seconds * part - time.monotonic()))
            left = round(seconds * (1 - part))
            self.say(at, location=f"Hohmann transfer orbit, {words} of the way to {towards}", estimated_time=left)
        time.sleep(max(0.0, began + seconds - time.monotonic()))


def _say_that_it_is_lost(context: Any) -> None:
    """A task has failed for good: the rocket is lost. Where Hohmann cannot be told, it asks Airflow by itself."""
    run = context["dag_run"]
    hohmann = Hohmann.from_airflow()
    body = {"state": "RUD", "status": "failed", "dag_run_id": run.run_id, "sequence": LOST}
    hohmann.call("PATCH", f"/api/v1/job/{run.conf['job_id']}", body)


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1000,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=5),
        "on_failure_callback": _say_that_it_is_lost,
    },
    tags=["hohmann"],
    doc_md=__doc__,
)
def rocket_flight_dag() -> None:
    """Preparing, Ready, InFlight, Landed_On_Mars."""

    @task
    def prepare() -> int:
        """On the ground; a rocket on its way home comes down first. Returns how many seconds the flight will take."""
        flight = Flight()
        rocket = flight.say(PREPARES, status="running")
        seconds = int(rocket["estimated_time"])
        if rocket["state"] == "InFlight":
            flight.travel(PREPARES + 1, seconds, rocket["source"])
            flight.say(PREPARES + 20, state="Preparing", location=rocket["source"], estimated_time=seconds)
        time.sleep(PREPARING_SECONDS)
        flight.say(PREPARES + 21, state="Ready", estimated_time=seconds)
        return seconds

    @task
    def fly(seconds: int) -> int:
        """On the way out."""
        flight = Flight()
        destination = flight.look()["destination"]
        time.sleep(READY_SECONDS)
        flight.say(FLIES, state="InFlight", status="running", estimated_time=seconds)
        flight.travel(FLIES + 1, seconds, destination)
        return seconds

    @task
    def land(_seconds: int) -> None:
        """There."""
        flight = Flight()
        destination = flight.look()["destination"]
        flight.say(LANDS, state="Landed_On_Mars", status="succeeded", location=destination, estimated_time=0)

    land(fly(prepare()))


rocket_flight_dag()
