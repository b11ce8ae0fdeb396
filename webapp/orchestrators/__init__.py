"""Who executes runs and flies plain rockets: the instance's own workers, or Apache Airflow."""

from urllib.parse import quote

from flask import Flask

from webapp.config import Settings
from webapp.jobs import operations as jobs
from webapp.rockets import operations as rockets
from webapp.rockets.orchestrator import Orchestrator


def wire(app: Flask) -> None:
    """Choose the orchestrator by the settings."""
    from webapp.orchestrators.airflow import flights
    from webapp.orchestrators.embedded import EmbeddedWorkers

    settings: Settings = app.extensions["settings"]
    chosen: Orchestrator = flights.AirflowFlights(settings) if settings.airflow_url else EmbeddedWorkers()
    app.extensions["orchestrator"] = chosen
    jobs.job_about_to_go.listen(flights.let_go_of_runs)
    rockets.rocket_about_to_go.listen(flights.let_go_of_rocket)
    app.jinja_env.globals["has_airflow"] = lambda: bool(settings.airflow_url)
    app.jinja_env.globals["dag_run_address"] = lambda dag_run_id: dag_run_address(settings, dag_run_id)


def dag_run_address(settings: Settings, dag_run_id: str) -> str:
    """The page of Airflow's that shows the DAG run of one of our runs."""
    dag = quote(settings.airflow_run_dag, safe="")
    return f"{settings.airflow_url.rstrip('/')}/dags/{dag}/runs/{quote(dag_run_id, safe='')}"
