"""The small parts inside a child: what its telephone lets pass, and how it holds its breath."""

import threading
import time
import uuid
from multiprocessing.connection import Pipe

import pytest

from webapp.runs.messages import Lease, Totals
from webapp.runs.worker.execution import LONGEST_LINE, LeaseHold, Line, Progress, Step, Telephone


@pytest.fixture
def line():
    """A telephone for a definition, and the other end of it."""
    ends = []

    def connect(**spec):
        ours, theirs = Pipe()
        ends.extend((ours, theirs))
        first = spec.pop("first_task", 1)
        lease = Lease(uuid.uuid4(), uuid.uuid4(), 1, 1, first, spec, Totals(10, 10, 10, 100) if first > 1 else Totals())
        return Telephone(theirs, lease), ours

    yield connect
    for end in ends:
        end.close()


def test_secrets_are_struck_out_in_whole_and_in_part(line):
    telephone, _ = line(
        tasks=[{"extractor": {"headers": {"Authorization": "Token abcdefgh-secret"}, "password": "p4ss"}}]
    )
    cleaned = telephone.clean("sent 'Token abcdefgh-secret', then abcdefgh-secret, with p4ss")
    assert "abcdefgh" not in cleaned and "p4ss" not in cleaned
    assert cleaned.startswith("sent ")


def test_what_a_database_does_not_take_is_replaced_and_long_lines_are_cut(line):
    telephone, _ = line()
    assert telephone.clean("a\x00b\udc80c") == "a\N{SYMBOL FOR NULL}b?c"
    assert len(telephone.clean("x" * 20_000)) == LONGEST_LINE


def test_lines_name_the_step_in_which_they_were_said(line):
    telephone, other = line()
    telephone.log("info", "before")
    telephone.step_started("load")
    telephone.log("shout", "within")
    telephone.step_ended("load")
    said = [other.recv() for _ in range(4)]
    lines = [message for message in said if isinstance(message, Line)]
    assert [(one.step, one.level, one.message) for one in lines] == [("", "info", "before"), ("load", "info", "within")]
    assert [message.outcome for message in said if isinstance(message, Step)] == [None, "succeeded"]


def test_progress_of_a_task_is_told_as_progress_of_the_run(line):
    telephone, other = line(tasks=[{}, {}, {}, {}], first_task=3)
    telephone.task = 3
    telephone.progress(5, 4, 50, 0.5)
    assert other.recv() == Progress(15, 14, 150, 0.625)


def test_a_child_goes_on_while_its_lease_is_good_and_stops_when_asked():
    hold = LeaseHold()
    hold.prolong(time.monotonic() + 60)
    assert hold.wait(lambda: False) is False
    assert hold.wait(lambda: True) is True


def test_a_child_waits_while_its_lease_is_in_doubt():
    hold = LeaseHold()
    hold.prolong(time.monotonic() - 1)
    waiter = threading.Thread(target=hold.wait, args=[lambda: False])
    waiter.start()
    waiter.join(0.2)
    assert waiter.is_alive()
    hold.prolong(time.monotonic() + 60)
    waiter.join(2)
    assert not waiter.is_alive()
