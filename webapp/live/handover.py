"""Takes a socket out of the web server's hands once the websocket handshake is done, so that no thread waits for it."""

import os
import socket
import ssl
from typing import Any, NoReturn

from simple_websocket import Server


class CannotTakeOver(Exception):
    """The web server gave no plain socket: TLS ends at a proxy before it, and only gunicorn's threads are supported."""

    def __init__(self, server: str) -> None:
        super().__init__(f"The socket of {server} cannot be taken over")
        self.server = server


class NoThread:
    """Stands in for the reading thread that simple-websocket would start for each socket."""

    name = "websocket"

    def __init__(self, target: Any) -> None:
        del target

    def start(self) -> None:
        """Nothing: the hub reads."""


def take_over(ws: Server) -> socket.socket:
    """The connection behind a finished handshake, as a socket of our own.

    The web server is left with an unconnected socket in its place. It shuts down and drains what it believes to be the
    connection, on its main thread, for up to two seconds; a mere duplicate would be shut down with it.
    """
    sock = ws.sock
    if ws.mode != "gunicorn" or isinstance(sock, ssl.SSLSocket):
        _refuse(ws)
    ours = socket.socket(fileno=os.dup(sock.fileno()))
    with socket.socket() as blank:
        os.dup2(blank.fileno(), sock.fileno(), inheritable=False)
    # Otherwise flask-sock would write a close frame when the handler returns.
    ws.connected = False
    return ours


def _refuse(ws: Server) -> NoReturn:
    raise CannotTakeOver(ws.mode)
