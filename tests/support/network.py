"""No test reaches beyond this machine: sockets of Python connect to loopback only."""

import ipaddress
import socket
from typing import Any

import pytest


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shut_network(patch: pytest.MonkeyPatch) -> None:
    """Make every connection to another machine fail with the address in its message."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(original: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
                raise PermissionError(f"tests have no network: {address[0]}:{address[1]}")
            return original(self, address)

        return call

    patch.setattr(socket.socket, "connect", guarded(connect))
    patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
