"""Sessions of browsers, at no cost for machines, which bring no cookie and get none."""

from flask import Flask, Request, Response, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from itsdangerous import BadSignature

CONTRACT_COOKIE = "olake-session"
"""The name that contract 002's clients know the session's cookie by; it carries a copy of the session."""


class LeanSessions(SecureCookieSessionInterface):
    """Flask's signed cookies; signing is only prepared for a request that has one or gets one."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        own = self.session_class()
        if self.get_cookie_name(app) in request.cookies:
            own = super().open_session(app, request) or own
        if CONTRACT_COOKIE in request.cookies and "_user_id" not in own:
            return self._copied(app, request.cookies[CONTRACT_COOKIE]) or own
        return own

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session.accessed or session.modified:
            super().save_session(app, session, response)

    def set_named_cookie(self, app: Flask, response: Response) -> None:
        """Give the session that has just begun to the browser under contract 002's name, too."""
        signer = self.get_signing_serializer(app)
        if signer is None:
            raise RuntimeError("sessions need a SECRET_KEY")
        response.set_cookie(
            CONTRACT_COOKIE,
            signer.dumps(dict(session)),
            max_age=app.permanent_session_lifetime,
            path=self.get_cookie_path(app),
            httponly=True,
            secure=self.get_cookie_secure(app),
            samesite=self.get_cookie_samesite(app),
        )

    def _copied(self, app: Flask, text: str) -> SecureCookieSession | None:
        signer = self.get_signing_serializer(app)
        try:
            lifetime = int(app.permanent_session_lifetime.total_seconds())
            return self.session_class(signer.loads(text, max_age=lifetime)) if signer else None
        except BadSignature:
            return None
