"""Answers travel compressed to whoever accepts it: brotli, zstd, gzip or deflate."""

from flask import Flask
from flask_compress import Compress

from webapp.config import Settings


def wire(app: Flask) -> None:
    """Compress answers of at least COMPRESS_MIN_BYTES; 0 leaves that to a proxy in front."""
    settings: Settings = app.extensions["settings"]
    if not settings.compress_min_bytes:
        return
    app.config.update(
        COMPRESS_MIN_SIZE=settings.compress_min_bytes,
        COMPRESS_MIMETYPES=[
            "text/html",
            "text/css",
            "text/plain",
            "text/javascript",
            "application/javascript",
            "application/json",
            "application/yaml",
            "image/svg+xml",
        ],
        COMPRESS_BR_LEVEL=4,  # the levels that cost about a millisecond for a page
        COMPRESS_ZSTD_LEVEL=3,
        COMPRESS_LEVEL=5,
        COMPRESS_STREAMS=False,  # a log that is downloaded is not held back
    )
    Compress(app)
