"""What happens to every request at the edge, whoever answers it: limits, other origins, repeats, ETags, compression."""

from flask import Flask


def wire_edge(app: Flask) -> None:
    """Attach the edge. Flask runs what comes after a request in the opposite order: compression is the last."""
    from webapp.edge import compression, conditional, cross_origin, idempotency, rate_limits

    compression.wire(app)
    cross_origin.wire(app)
    conditional.wire(app)
    rate_limits.wire(app)
    idempotency.wire(app)
