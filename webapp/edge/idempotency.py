"""Idempotency-Key: a POST that is sent twice with one key does its work once, and is answered the same both times.

The answer is kept in the transaction of the work itself, so neither is there without the other. A call that was refused
is not kept: repeat it with the same key. (IETF draft-ietf-httpapi-idempotency-key-header; 24 hours.)
"""

import hashlib
from datetime import timedelta

import orjson
import sqlalchemy as sa
from flask import Flask, Response, g, request
from sqlalchemy.exc import IntegrityError

from webapp import refusals
from webapp.accounts.access import Actor
from webapp.application import Hohmann
from webapp.dates import utcnow
from webapp.db import db
from webapp.edge.models import KeptAnswer
from webapp.errors import Invalid
from webapp.runs.chores import Chore, add_chore

HEADER = "Idempotency-Key"
KEEP = timedelta(hours=24)
MAXIMUM_LENGTH = 255
#: Doors whose answers hold secrets that are shown once: they are not written down.
SECRETIVE = frozenset({"users_api", "olake_auth", "webhooks_api", "portability_api", "airflow_api"})
REPEATED_HEADERS = ("Content-Type", "Location")


def wire(app: Flask) -> None:
    """Attach to every POST of the JSON doors."""
    app.before_request(find_answer)
    assert isinstance(app, Hohmann)
    app.keepers.append(keep_answer)
    add_chore(app, Chore("forget old Idempotency-Keys", forget_old_answers, every=3600.0))


def find_answer() -> Response | None:
    """What was answered to this call before, or None when it is new. Raises Invalid for a key of another call."""
    g.idempotency_key = None
    if not _is_asked_for():
        return None
    key = request.headers[HEADER]
    if not key or len(key) > MAXIMUM_LENGTH or not key.isprintable():
        raise Invalid(
            f"{HEADER} must be 1 to {MAXIMUM_LENGTH} printable characters.",
            field=HEADER,
            value=key[:50],
            where="header",
        )
    g.idempotency_key = key
    return _look_up(key)


def keep_answer(response: Response) -> Response:
    """Write the answer down beside the work; when the same call was faster, take back the work and give its answer."""
    key = g.get("idempotency_key")
    if key is None:
        return response
    headers = {name: response.headers[name] for name in REPEATED_HEADERS if name in response.headers}
    db.session.add(
        KeptAnswer(
            visitor=_visitor(), key=key, fingerprint=_fingerprint(), status=response.status_code,
            headers=orjson.dumps(headers).decode(), body=response.get_data(),
        )
    )  # fmt: skip
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        db.session.info.clear()
        if (faster := _look_up(key)) is None:
            raise
        return faster
    return response


def forget_old_answers() -> None:
    """Delete answers whose keys may be used anew."""
    db.session.execute(sa.delete(KeptAnswer).where(KeptAnswer.created_at < utcnow() - KEEP))


def _is_asked_for() -> bool:
    return (
        request.method == "POST"
        and HEADER in request.headers
        and g.get("actor") is not None
        and request.blueprint not in SECRETIVE
        and refusals.speaks_json()
    )


def _look_up(key: str) -> Response | None:
    query = sa.select(KeptAnswer).where(KeptAnswer.visitor == _visitor(), KeptAnswer.key == key)
    kept = db.session.scalar(query)
    if kept is None or kept.created_at < utcnow() - KEEP:
        return None
    if kept.fingerprint != _fingerprint():
        raise Invalid(f"This {HEADER} was used for another call.", field=HEADER, where="header")
    response = Response(kept.body, kept.status, orjson.loads(kept.headers))
    response.headers["Idempotent-Replayed"] = "true"
    return response


def _visitor() -> str:
    actor: Actor = g.actor
    return f"token {actor.token_id}" if actor.token_id else f"user {actor.user_id}"


def _fingerprint() -> str:
    call = hashlib.sha256(f"{request.method} {request.full_path}\n".encode())
    call.update(request.get_data(cache=True))
    return call.hexdigest()
