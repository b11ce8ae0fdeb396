"""Ends sockets that lost their right: log-out, new password, switched-off account, revoked token, new role."""

from collections.abc import Iterator

from webapp.accounts.access import Actor
from webapp.events import Event
from webapp.live import frames
from webapp.live.hub import Hub

KIND = "user.revoked"


class RevocationFeed:
    """Closes the sockets that a `user.revoked` event concerns."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def show(self, event: Event) -> None:
        """Say farewell to the sockets of the token or the user; one who only has another role now may come again."""
        if event.kind != KIND:
            return
        if event.payload.get("reason") == "role":
            self._hub.close_channel(_channel_of(event), frames.SERVICE_RESTART, "Your rights have changed")
        else:
            self._hub.close_channel(_channel_of(event), frames.POLICY, "Signed out")


def _channel_of(event: Event) -> str:
    for key in ("jti", "service_token"):
        if event.payload.get(key):
            return f"{key}:{event.payload[key]}"
    return f"user:{event.subject_id}"


def channels_of_bearer(actor: Actor, *, jti: str | None = None) -> Iterator[str]:
    """The channels by which whoever opened a socket can be signed out."""
    if actor.token_id is not None:
        yield f"service_token:{actor.token_id}"
    elif actor.user_id is not None:
        yield f"user:{actor.user_id}"
    if jti:
        yield f"jti:{jti}"
