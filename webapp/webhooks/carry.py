"""`python -m webapp.webhooks.carry`: the courier's process, which a worker starts."""

import os

from setproctitle import setproctitle

from webapp import create_app
from webapp.webhooks.courier import carry

if __name__ == "__main__":
    parent = os.getppid()
    setproctitle("hohmann: courier of webhooks")
    app = create_app()
    with app.app_context():
        carry(parent)
