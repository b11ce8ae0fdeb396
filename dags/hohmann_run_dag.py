"""Executes one attempt of a run of Hohmann's on a worker of Airflow.

Started with the conf `{"run_id": "<the run's id>"}`. What the run shall do, its secrets included, is fetched from
Hohmann with a token for this attempt alone; nothing of it goes into Airflow's database or logs. Whether a failed run is
tried again is Hohmann's decision, so Airflow does not repeat the task.
"""

import logging

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException
from hohmann_api import Hohmann


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1000,
    max_active_tasks=1000,
    default_args={"retries": 0},
    tags=["hohmann"],
    doc_md=__doc__,
)
def hohmann_run_dag() -> None:
    """One task: the run."""

    @task
    def execute() -> str:
        """Move the data; returns how it ended, and fails when the run did."""
        from webapp.config import Settings
        from webapp.runs.worker.remote import NotBegun, execute_run

        dag_run = get_current_context()["dag_run"]
        hohmann = Hohmann.from_airflow()
        try:
            outcome = execute_run(
                hohmann.call,
                dag_run.conf["run_id"],
                dag_run_id=dag_run.run_id,
                service_token=hohmann.token,
                settings=Settings.from_environment(),
            )
        except NotBegun as error:
            raise AirflowFailException(str(error)) from error
        if outcome.name != "succeeded":
            raise AirflowFailException(f"{outcome.name}: {outcome.message or 'no reason was given'}")
        logging.getLogger(__name__).info("%s rows written", outcome.rows_written)
        return outcome.name

    execute()


hohmann_run_dag()
