"""The hub with real TCP sockets in one process: what it does with the quick, the slow, the silent and the rude."""

import logging
import multiprocessing
import resource
import socket
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from webapp.live import frames
from webapp.live.client import MOVES, Phase
from webapp.live.hub import Hub, Limits, allow_open_files

QUICK = Limits(ping_every=0.3, auth_within=0.3, farewell=0.3, backlog_bytes=200_000, send_buffer_bytes=20_000)


class Notes:
    """A listener that writes down what it is told."""

    def __init__(self, hub=None, *, fails=False):
        self.hub = hub
        self.fails = fails
        self.heard = []
        self.ended = threading.Event()

    def received(self, client, message):
        if self.fails:
            raise RuntimeError("a defect in a listener")
        self.heard.append(message)
        if self.hub:
            self.hub.send(client, frames.text(message))

    def closed(self, client):
        self.ended.set()


class Peer:
    """The other end of a socket: a client that parses frames with wsproto."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(5)
        self.protocol = Connection(ConnectionType.CLIENT)

    def say(self, event):
        self.sock.sendall(self.protocol.send(event))

    def events(self):
        """All that comes, until the server closes the connection."""
        while True:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return
            if not data:
                return
            self.protocol.receive_data(data)
            for event in self.protocol.events():
                yield event
                if isinstance(event, CloseConnection):
                    return

    def texts(self, number):
        """The next complete text messages."""
        found, parts = [], []
        for event in self.events():
            if isinstance(event, TextMessage):
                parts.append(event.data)
                if event.message_finished:
                    found.append("".join(parts))
                    parts.clear()
            if len(found) == number:
                return found
        return found

    def farewell(self):
        """The code of the server's close frame, None when it ends without a word."""
        return next((int(event.code) for event in self.events() if isinstance(event, CloseConnection)), None)


@pytest.fixture
def make_hub():
    made = []

    def make(**limits):
        made.append(Hub(replace(QUICK, **limits)))
        return made[-1]

    yield make
    for hub in made:
        hub.stop(within=0.2)


@pytest.fixture
def hub(make_hub):
    return make_hub(ping_every=30.0)


@pytest.fixture
def connect():
    """`connect(hub, listener)` is a client in the hub and the peer that speaks to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        opened = []

        def make(hub, listener=None, *, admitted=True, receive_buffer=0):
            far = socket.socket()
            if receive_buffer:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            far.connect(server.getsockname())
            opened.append(far)
            near, _ = server.accept()
            return hub.adopt(near, listener or Notes(), admitted=admitted), Peer(far)

        yield make
        for far in opened:
            far.close()


def wait_until(is_so, seconds=5.0):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def test_a_channel_gets_what_is_published_there_and_nothing_else(hub, connect):
    (one, first), (two, second) = connect(hub), connect(hub)
    hub.join(one, ["a", "b"])
    hub.join(two, ["b"])
    for channel, text in (("a", "1"), ("b", "2"), ("c", "3"), ("b", "4")):
        hub.publish(channel, frames.text(text))
    assert first.texts(3) == ["1", "2", "4"]
    assert second.texts(2) == ["2", "4"]


def test_who_leaves_gets_nothing_more_and_nobody_wants_the_channel(hub, connect):
    client, peer = connect(hub)
    hub.join(client, ["a"])
    hub.join(client, ["a"])
    assert hub.is_wanted("a")
    hub.leave(client, ["a", "never joined"])
    hub.send(client, frames.text("last"))
    assert peer.texts(1) == ["last"]
    wait_until(lambda: not hub.is_wanted("a"))


def test_a_channel_whose_listeners_are_gone_is_not_wanted(hub, connect):
    notes = Notes()
    client, peer = connect(hub, notes)
    hub.join(client, ["a"])
    peer.sock.close()
    assert notes.ended.wait(5)
    wait_until(lambda: not hub.is_wanted("a"))
    hub.join(client, ["b"])  # too late
    wait_until(lambda: not hub.is_wanted("b"))
    assert hub.size == 0


def test_messages_from_many_threads_keep_the_order_of_each(hub, connect):
    client, peer = connect(hub)
    hub.join(client, ["a"])

    def speak(name):
        for number in range(200):
            hub.publish("a", frames.text(f"{name}{number}"))

    threads = [threading.Thread(target=speak, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    heard = peer.texts(600)
    for thread in threads:
        thread.join()
    for name in "xyz":
        assert [text for text in heard if text[0] == name] == [f"{name}{number}" for number in range(200)]


def test_a_hub_that_fell_behind_keeps_the_order_over_all_channels(hub, connect):
    (both, first), (one, second), (late, third) = connect(hub), connect(hub), connect(hub)
    hub.join(both, ["a", "b"])
    hub.join(one, ["b"])
    hub.call_later(0, lambda: time.sleep(0.3))
    time.sleep(0.05)
    for number in range(100):
        if number == 50:
            hub.send(one, frames.text("between"))
            hub.join(late, ["a"])
        hub.publish("ab"[number % 2], frames.text(str(number)))
    assert first.texts(100) == [str(number) for number in range(100)]
    odd = [str(number) for number in range(1, 100, 2)]
    assert second.texts(51) == [*odd[:25], "between", *odd[25:]]
    assert third.texts(25) == [str(number) for number in range(50, 100, 2)]


def test_a_slow_client_is_cut_off_with_1013_and_slows_nobody(hub, connect):
    slow_notes = Notes()
    slow, slow_peer = connect(hub, slow_notes, receive_buffer=4096)
    quick, quick_peer = connect(hub)
    hub.join(slow, ["a"])
    hub.join(quick, ["a"])
    delays = []
    for number in range(400):
        began = time.monotonic()
        hub.publish("a", frames.text(f"{number:04}" + "x" * 4000))
        assert quick_peer.texts(1)[0].startswith(f"{number:04}")
        delays.append(time.monotonic() - began)
    assert sorted(delays)[390] < 0.1
    assert slow_notes.ended.wait(5)
    # What it can still read is whole messages, then the reason.
    assert slow.phase is Phase.CLOSED
    assert slow_peer.farewell() in (1013, None)
    hub.send(quick, frames.text("still here"))
    assert quick_peer.texts(1) == ["still here"]


def test_a_slow_client_that_reads_again_learns_why_it_was_cut_off(make_hub, connect):
    hub = make_hub(ping_every=30.0, farewell=5.0)
    slow, peer = connect(hub, receive_buffer=4096)
    hub.join(slow, ["a"])
    for _ in range(200):
        hub.publish("a", frames.text("x" * 4000))
    wait_until(lambda: slow.phase is Phase.CLOSING)
    assert peer.farewell() == 1013


def test_a_client_that_pauses_below_the_limit_loses_nothing(hub, connect):
    client, peer = connect(hub, receive_buffer=4096)
    hub.join(client, ["a"])
    texts = [f"{number:03}" + "x" * 1000 for number in range(150)]
    for text in texts:
        hub.publish("a", frames.text(text))
    time.sleep(0.2)
    assert client.backlog > 0
    assert peer.texts(150) == texts


def test_a_silent_peer_is_pinged_and_then_dropped(make_hub, connect):
    hub = make_hub()
    notes = Notes()
    _, peer = connect(hub, notes)
    assert isinstance(next(peer.events()), Ping)
    began = time.monotonic()
    assert notes.ended.wait(5)
    assert time.monotonic() - began < 1.0


def test_a_peer_that_answers_pings_stays(make_hub, connect):
    hub = make_hub(ping_every=0.1)
    notes = Notes()
    _, peer = connect(hub, notes)
    for number, event in enumerate(peer.events()):
        peer.say(event.response())
        if number == 6:
            break
    assert not notes.ended.is_set()


def test_a_stranger_is_closed_with_1008_in_time(hub, connect):
    _, peer = connect(hub, admitted=False)
    began = time.monotonic()
    assert peer.farewell() == 1008
    assert 0.2 < time.monotonic() - began < 2.0


def test_who_is_admitted_stays_until_its_token_expires(hub, connect):
    client, peer = connect(hub, admitted=False)
    hub.admit(client, seconds=0.8)
    began = time.monotonic()
    assert peer.farewell() == 1008
    assert 0.6 < time.monotonic() - began < 2.0


def test_a_stranger_gets_nothing_that_is_published(hub, connect):
    client, peer = connect(hub, admitted=False)
    hub.join(client, ["a"])
    hub.publish("a", frames.text("secret"))
    assert [event for event in peer.events() if isinstance(event, TextMessage)] == []


def test_an_unfinished_message_is_heard_when_it_is_complete(hub, connect):
    notes = Notes()
    _, peer = connect(hub, notes)
    peer.say(TextMessage(data="one ", message_finished=False))
    peer.say(Ping(payload=b"between"))
    assert isinstance(next(peer.events()), Pong)
    assert notes.heard == []
    peer.say(TextMessage(data="two"))
    wait_until(lambda: notes.heard == ["one two"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=300), min_size=1, max_size=5), st.integers(1, 50))
def test_messages_survive_any_cutting_of_the_stream(texts, piece):
    hub = Hub(QUICK)
    notes = Notes(hub)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as far:
        near, _ = server.accept()
        hub.adopt(near, notes, admitted=True)
        peer = Peer(far)
        stream = b"".join(peer.protocol.send(TextMessage(data=text)) for text in texts)
        for start in range(0, len(stream), piece):
            far.sendall(stream[start : start + piece])
        assert peer.texts(len(texts)) == texts
        hub.stop(within=0.2)


@pytest.mark.parametrize(
    ("bytes_sent", "code"),
    [
        (b"\x81\x05hello", 1002),  # a client has to mask
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # an opcode that does not exist
        (b"\xf1\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x09\x80\x00\x00\x00\x00", 1002),  # a ping in pieces
        (b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007),  # no UTF-8
        (b"\x82\x81\x00\x00\x00\x00x", 1003),  # binary
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002),
    ],
)
def test_what_breaks_the_protocol_is_closed_with_the_code_for_it(hub, connect, bytes_sent, code):
    _, peer = connect(hub)
    peer.sock.sendall(bytes_sent)
    assert peer.farewell() == code


def test_a_message_over_the_limit_is_closed_with_1009(make_hub, connect):
    hub = make_hub(ping_every=30.0, message_length=1000, unknown_message_length=100)
    for admitted, limit in ((True, 1000), (False, 100)):
        notes = Notes()
        _, peer = connect(hub, notes, admitted=admitted)
        peer.say(TextMessage(data="x" * limit))
        wait_until(lambda notes=notes: len(notes.heard) == 1)
        peer.say(TextMessage(data="x" * (limit - 1), message_finished=False))
        peer.say(TextMessage(data="xx"))
        assert peer.farewell() == 1009


def test_a_defect_behind_one_socket_ends_that_socket_only(hub, connect, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hohmann.live"), "handlers", [caplog.handler])
    _, broken = connect(hub, Notes(fails=True))
    client, well = connect(hub)
    broken.say(TextMessage(data="hello"))
    assert broken.farewell() == 1011
    assert "a defect in a listener" in caplog.text
    hub.send(client, frames.text("hello"))
    assert well.texts(1) == ["hello"]


def test_a_peers_farewell_is_answered_and_the_socket_ends(hub, connect):
    notes = Notes()
    _, peer = connect(hub, notes)
    peer.say(CloseConnection(code=1000, reason="done"))
    assert peer.farewell() == 1000
    peer.sock.close()
    assert notes.ended.wait(2)


def test_a_peer_that_ignores_our_farewell_is_dropped(hub, connect):
    notes = Notes()
    client, peer = connect(hub, notes)
    hub.close(client, frames.NORMAL, "that was all")
    assert peer.farewell() == 1000
    assert notes.ended.wait(2)


def test_closing_a_channel_says_farewell_to_its_clients_only(hub, connect):
    (one, first), (two, second) = connect(hub), connect(hub)
    hub.join(one, ["user:1"])
    hub.join(two, ["user:2"])
    hub.close_channel("user:1", frames.POLICY, "Signed out")
    assert first.farewell() == 1008
    hub.send(two, frames.text("hello"))
    assert second.texts(1) == ["hello"]


def test_more_clients_than_allowed_are_sent_away_with_1013(make_hub, connect):
    hub = make_hub(clients=2, ping_every=30.0)
    connect(hub)
    client, peer = connect(hub)
    _, third = connect(hub)
    assert third.farewell() == 1013
    hub.send(client, frames.text("hello"))
    assert peer.texts(1) == ["hello"]


def test_stopping_says_1001_to_everybody_and_ends_in_time(make_hub, connect):
    hub = make_hub(ping_every=30.0)
    peers = [connect(hub)[1] for _ in range(20)]
    began = time.monotonic()
    stopper = threading.Thread(target=hub.stop)
    stopper.start()
    assert [peer.farewell() for peer in peers] == [1001] * 20
    stopper.join()
    assert time.monotonic() - began < 2.0
    assert hub.size == 0


def test_a_forked_process_begins_with_a_hub_of_its_own(hub, connect):
    client, peer = connect(hub)
    hub.join(client, ["a"])
    hub.send(client, frames.text("before"))
    assert peer.texts(1) == ["before"]
    outcome = multiprocessing.get_context("fork").SimpleQueue()

    def child():
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as far:
            near, _ = server.accept()
            own = hub.adopt(near, Notes(), admitted=True)
            hub.join(own, ["a"])
            hub.publish("a", frames.text("from the child"))
            outcome.put(Peer(far).texts(1))
            outcome.put(hub.size)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert outcome.get() == ["from the child"]
    assert outcome.get() == 1
    process.join()
    hub.publish("a", frames.text("from the parent"))
    assert peer.texts(1) == ["from the parent"]


def test_the_limit_of_open_files_is_raised_for_many_clients():
    outcome = multiprocessing.get_context("fork").SimpleQueue()

    def child():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        allow_open_files(2000)
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allow_open_files(300)
        kept, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        outcome.put((raised, kept, hard))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    raised, kept, hard = outcome.get()
    process.join()
    assert raised == kept == (2000 if hard == resource.RLIM_INFINITY else min(2000, hard))


def test_a_closed_socket_has_no_way_back():
    assert MOVES[Phase.CLOSED] == frozenset()
    assert all(Phase.WAITING not in targets for targets in MOVES.values())
    assert set(MOVES) == set(Phase)
