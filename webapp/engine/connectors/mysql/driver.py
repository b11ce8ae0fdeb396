"""PyMySQL's connection, opened without reading every authority of this machine first."""

import ssl
from typing import Any

import pymysql


def unverified() -> ssl.SSLContext:
    """Encrypts without asking whose certificate it is; servers rarely have one of a known authority."""
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    secure.check_hostname = False
    secure.verify_mode = ssl.CERT_NONE
    return secure


class Connection(pymysql.Connection):  # type: ignore[misc]  # the driver has no types
    """Encrypted where the server offers it, or as a context says that is given as `ssl`."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        # The driver loads a hundred certificates for each connection, and then asks none of them.
        return sslp if isinstance(sslp, ssl.SSLContext) else unverified()
