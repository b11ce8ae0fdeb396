"""The live feed under a thousand clients, over restarts, and when processes and the database go away."""

import json
import os
import selectors
import signal
import socket
import time

import psutil
import sqlalchemy as sa
import websocket

from tests.live.conftest import farewell, heard

CLIENTS = 1000
DROP_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
HANDSHAKE = (
    "GET /api/v1/ws/jobs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
)


class Crowd:
    """A thousand bare sockets, each of which keeps the bytes that it got."""

    def __init__(self, site, number):
        self.selector = selectors.DefaultSelector()
        self.bytes = {}
        request = HANDSHAKE.format(port=site.port, token=site.people.bob.jwt).encode()
        for _ in range(number):
            sock = socket.create_connection(("127.0.0.1", site.port))
            sock.sendall(request)
            self.bytes[sock] = bytearray()
            self.selector.register(sock, selectors.EVENT_READ)

    def read_until(self, is_so, seconds=30.0):
        end = time.monotonic() + seconds
        while not all(is_so(got) for got in self.bytes.values()):
            assert time.monotonic() < end, sorted(len(got) for got in self.bytes.values())[:10]
            for key, _ in self.selector.select(0.5):
                self.bytes[key.fileobj] += key.fileobj.recv(65536)

    def close(self):
        self.selector.close()
        for sock in self.bytes:
            sock.close()


def test_a_thousand_clients_get_every_event_and_one_that_sleeps_slows_nobody(site):
    crowd = Crowd(site, CLIENTS)
    asleep = site.listen(site.people.bob)  # never reads again
    try:
        crowd.read_until(lambda got: b"Connected to job updates" in got)
        began = time.monotonic()
        ids = [str(site.build(site.people.bob)).encode() for _ in range(40)]
        crowd.read_until(lambda got: ids[-1] in got)
        took = time.monotonic() - began
        for got in crowd.bytes.values():
            places = [got.find(one) for one in ids]
            assert -1 not in places and places == sorted(places)
            assert got.count(b'"job_update"') == len(ids)
        assert took < 20
    finally:
        crowd.close()
    asleep.send("awake")
    assert sum(heard(asleep)["type"] == "job_update" for _ in ids) == len(ids)


def test_no_thread_belongs_to_a_socket(site):
    workers = psutil.Process(site.process.pid).children()
    site.listen(site.people.bob)
    before = [worker.num_threads() for worker in workers]
    for _ in range(50):
        site.listen(site.people.bob)
    after = [worker.num_threads() for worker in workers]
    # The pool's own threads, the hub and the tailer; they may not all have started yet.
    assert sum(after) <= sum(before) + len(workers) * 6
    assert max(after) <= 12


def test_pages_are_served_while_more_sockets_are_open_than_there_are_threads(site):
    sockets = [site.listen(site.people.bob) for _ in range(40)]
    rocket_id = str(site.build(site.people.bob))
    assert all(heard(ws)["job"]["id"] == rocket_id for ws in sockets)
    assert site.people.bob.jwt and site.listen(site.people.rita)


def test_a_restart_says_1001_and_a_client_resumes_where_it_was(make_site):
    site = make_site()
    ws = site.listen(site.people.bob)
    first = str(site.build(site.people.bob))
    update = heard(ws)
    assert update["job"]["id"] == first
    assert site.stop() < 5.0
    assert farewell(ws) == 1001
    missed = [str(site.build(site.people.bob)) for _ in range(3)]
    site.start()
    ws = site.listen(site.people.bob, f"?since={update['event_id']}")
    later = str(site.build(site.people.bob))
    assert [heard(ws)["job"]["id"] for _ in range(4)] == [*missed, later]


def test_a_killed_web_process_is_replaced_and_its_clients_resume(make_site):
    site = make_site()
    start = site.latest()
    sockets = [site.listen(site.people.bob) for _ in range(8)]
    webs = psutil.Process(site.process.pid).children()
    victim = max(webs, key=lambda web: len(web.net_connections("tcp")))  # one that holds some of the sockets
    os.kill(victim.pid, signal.SIGKILL)
    rocket_id = str(site.build(site.people.bob))
    survivors = 0
    for ws in sockets:
        try:
            survivors += heard(ws)["job"]["id"] == rocket_id
        except (websocket.WebSocketException, OSError, json.JSONDecodeError):
            continue
    assert survivors < len(sockets)
    for _ in range(4):
        assert heard(site.listen(site.people.bob, f"?since={start}"))["job"]["id"] == rocket_id


def test_an_idle_feed_costs_nothing(make_site):
    site = make_site()
    site.listen(site.people.bob)
    time.sleep(0.5)
    workers = psutil.Process(site.process.pid).children()

    def used():
        return sum(sum(worker.cpu_times()[:2]) for worker in workers)

    before = used()
    time.sleep(3)
    assert used() - before < 0.15


def test_events_arrive_when_the_signals_of_the_log_were_lost(make_site, databases):
    site = make_site()
    ws = site.listen(site.people.bob)
    if databases.kind == "postgresql":
        with site.work() as session:
            session.execute(sa.text(DROP_CONNECTIONS))
    else:
        for file in (site.settings.run_folder / "wake").iterdir():
            file.unlink()
    ids = [str(site.build(site.people.bob)) for _ in range(3)]
    assert [heard(ws)["job"]["id"] for _ in ids] == ids
