"""`python -m webapp.orchestrators.airflow`: the process that talks to Airflow, as the Procfile starts it."""

from webapp import create_app
from webapp.orchestrators.airflow.dispatcher import main

main(create_app())
