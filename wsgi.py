"""What gunicorn serves: `gunicorn wsgi:app`."""

import sys

from webapp import create_app
from webapp.config import ConfigError
from webapp.memory import give_large_blocks_back

give_large_blocks_back()
try:
    app = create_app()
except ConfigError as error:
    sys.exit(f"Hohmann cannot start. {error}")
