"""`python -m webapp.runs.worker`: one worker process, as the Procfile starts it."""

from webapp import create_app
from webapp.runs.worker.loop import main

main(create_app())
