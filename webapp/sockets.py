"""The web server's listening sockets: one that is open from the first moment, and one for each process beside it."""

import socket

BACKLOG = 2048


def open_first(host: str, port: int) -> socket.socket:
    """The socket that all processes share. Raises OSError, also when any other program listens there already."""
    # A socket that shares its port would bind beside another stack's and take a part of its callers: ask alone first.
    _bind(host, port, shared=False).close()
    return open_another(host, port)


def open_another(host: str, port: int) -> socket.socket:
    """One more socket on the address of `open_first`: the kernel spreads new connections over all. Raises OSError."""
    listener = _bind(host, port, shared=True)
    listener.listen(BACKLOG)
    return listener


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. Without it an answer of two parts waits 40 ms for the caller to confirm the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
