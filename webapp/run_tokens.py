"""The token of one attempt of one run: whoever holds it may read what the run shall do, and report how it goes.

It is signed, not stored, and worth nothing once the attempt has lost its lease: the lease's number is in it.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta

import jwt
from flask import current_app

from webapp.dates import utcnow

AUDIENCE = "hohmann run"
GOOD_FOR = timedelta(days=8)  # longer than the longest attempt


@dataclass(frozen=True)
class RunPass:
    """What a run's token says."""

    run_id: uuid.UUID
    lease_token: int


def make_token(run_pass: RunPass) -> str:
    """A token for this attempt."""
    claims = {
        "aud": AUDIENCE,
        "sub": str(run_pass.run_id),
        "lease": run_pass.lease_token,
        "exp": utcnow() + GOOD_FOR,
    }
    return jwt.encode(claims, current_app.config["SECRET_KEY"], algorithm="HS256")


def read_token(token: str) -> RunPass | None:
    """What the token says, or None when it is none of ours or too old."""
    try:
        claims = jwt.decode(token, current_app.config["SECRET_KEY"], algorithms=["HS256"], audience=AUDIENCE)
        return RunPass(uuid.UUID(claims["sub"]), int(claims["lease"]))
    except (jwt.PyJWTError, KeyError, ValueError, TypeError):
        return None
