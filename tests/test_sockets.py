"""The listening sockets of the web processes."""

import socket
from collections.abc import Callable

import pytest

from tests.support.stacks import free_port
from webapp import sockets


def test_a_second_stack_is_refused_a_port_that_the_first_one_shares_among_its_processes() -> None:
    port = free_port()
    with sockets.open_first("127.0.0.1", port), pytest.raises(OSError, match="Address already in use"):
        sockets.open_first("127.0.0.1", port)


def test_new_connections_are_spread_over_the_sockets_of_all_processes() -> None:
    port = free_port()
    listeners = [sockets.open_first("127.0.0.1", port)]
    listeners += [sockets.open_another("127.0.0.1", port) for _ in range(2)]
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
    taken = [_accept_all(listener) for listener in listeners]
    for opened in (*clients, *listeners):
        opened.close()
    assert sum(taken) == 90
    assert min(taken) >= 10  # 30 are expected; fewer than 10 happens once in millions


def _accept_all(listener: socket.socket) -> int:
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize("opened", [sockets.open_first, sockets.open_another])
def test_an_answer_in_two_parts_does_not_wait_for_the_caller_to_confirm_the_first(
    opened: Callable[[str, int], socket.socket],
) -> None:
    port = free_port()
    with opened("127.0.0.1", port) as listener, socket.create_connection(("127.0.0.1", port)):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
