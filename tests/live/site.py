"""What gunicorn serves in the tests of the live feed: the whole application, and one renderer of our own to look at."""

from flask import Flask

from webapp import create_app
from webapp.live import renderers_of


def make_site() -> Flask:
    """The application for the settings of the environment; lights are shown on the board and on pages of their own."""
    app = create_app()
    renderers_of(app).register("light.", topics_of_light, draw_light)
    return app


def topics_of_light(event):
    return [f"light:{event.subject_id}", "board"]


def draw_light(events):
    if events[-1].payload["colour"] == "broken":
        raise ValueError("this light cannot be drawn")
    return f'<p id="light" data-event="{events[-1].id}">{events[-1].payload["colour"]}</p>'
