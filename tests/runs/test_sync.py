"""Sync runs from end to end: a real worker moves a SQLite file into a DuckDB file."""

import json
import uuid

import pytest
import sqlalchemy as sa

from tests.jobs.syncs import VERSION, add_rows, choice, document, make_source, stream
from tests.runs.mission import Mission
from webapp.connections import operations as connections
from webapp.connections.models import ConnectionRole
from webapp.connections.operations import ConnectionDraft
from webapp.jobs.sync import operations as sync
from webapp.jobs.sync.operations import SyncDraft
from webapp.jobs.sync.plans import Wish
from webapp.jobs.sync.states import reset_stream, states_of
from webapp.rockets.models import Rocket
from webapp.rockets.states import Phase
from webapp.runs import operations as runs
from webapp.runs import parachute
from webapp.runs.models import Run
from webapp.runs.queue import Lease, Step
from webapp.runs.states import RunState
from webapp.runs.worker.execution import Telephone, run_context
from webapp.runs.worker.sync import execute_sync

INCREMENTAL = {"sync_mode": "incremental", "cursor_field": "seen"}
NOTES = {"type_schema": {"properties": {}}, "source_defined_primary_key": []}


class Copy:
    """A sync job of its own files in a mission."""

    def __init__(self, mission: Mission, name: str) -> None:
        self.mission, self.name = mission, name
        self.file = mission.data / f"{name}.db"
        self.lake = f"{name}.duckdb"
        make_source(self.file)
        self.job_id = uuid.uuid4()

    def define(self, streams: object, **facts: object) -> "Copy":
        """Create the job with this catalog document."""
        actor = self.mission.alice.actor
        with self.mission.work():
            project = actor.default_project_id
            ends = [
                connections.create_connection(
                    actor, role, ConnectionDraft(self.name, kind, VERSION, {"path": path}), project_id=project
                ).id
                for role, kind, path in (
                    (ConnectionRole.SOURCE, "sqlite", self.file.name),
                    (ConnectionRole.DESTINATION, "duckdb", self.lake),
                )
            ]
            draft = SyncDraft(self.name, ends[0], ends[1], streams=json.dumps(streams))
            made = sync.create_sync(actor, project, draft)
            made.job.max_attempts = 1
            self.job_id = made.job_id
        return self

    def fly(self, **wish: object) -> Run:
        """Run the job to its end."""
        with self.mission.work():
            run_id = runs.start_run(self.mission.alice.actor, self.job_id, wish=Wish(**wish)).id
        return self.mission.wait_until_ended(run_id, seconds=60)

    def restore(self) -> Run:
        """Bring back what the last run replaced or changed."""
        actor = self.mission.alice.actor
        with self.mission.look():
            kept = parachute.generations_of(actor, self.job_id)[0]
        with self.mission.work():
            run_id = parachute.restore_stream(actor, self.job_id, stream=kept.stream, generation=kept.generation).id
        return self.mission.wait_until_ended(run_id)

    def rows(self, table: str = "probes") -> list[tuple[object, ...]]:
        """What the lake holds."""
        return self.mission.query(f"SELECT id, name, seen FROM lake_main.{table} ORDER BY 1", self.lake)

    def count(self, table: str = "probes") -> int:
        return self.mission.count(f"lake_main.{table}", self.lake)

    def receipts(self, run: Run) -> dict[str, dict[str, object]]:
        """What the steps of the run say of each stream."""
        steps = self.mission.steps(run.id)
        return {step.name: step.facts["stream"] for step in steps if "stream" in step.facts}

    def kept(self) -> dict[str, object]:
        """The states of the job's streams."""
        with self.mission.look():
            return {label: row.state for label, row in states_of(self.job_id).items()}


@pytest.fixture
def copy(busy: Mission, request: pytest.FixtureRequest) -> Copy:
    """A copy that this test may define."""
    return Copy(busy, f"c{abs(hash(request.node.name)) % 10**8}")


def test_streams_land_with_receipts_and_states_and_the_rocket_flies(copy: Copy):
    run = copy.define(document(stream(), stream("notes", **NOTES))).fly()

    assert run.state is RunState.SUCCEEDED, run.error_message
    assert (run.rows_read, run.rows_written, run.rows_found) == (5, 5, 5)
    assert (run.doubt, run.fraction) == (None, 1.0)
    assert copy.rows() == [(1, "probe 1", 1), (2, "probe 2", 2), (3, "probe 3", 3)]
    assert copy.count("notes") == 2
    receipts = copy.receipts(run)
    assert {label: receipt["status"] for label, receipt in receipts.items()} == {
        "main.probes": "landed",
        "main.notes": "landed",
    }
    steps = {step.name: step for step in copy.mission.steps(run.id)}
    assert all(step.outcome == "succeeded" and step.finished_at for step in steps.values())
    with copy.mission.look() as session:
        rocket = session.scalars(sa.select(Rocket).where(Rocket.job_id == copy.job_id)).one()
        assert rocket.phase is Phase.LANDED


def test_a_sum_that_a_stream_carries_is_in_its_receipt_from_both_sides(copy: Copy):
    run = copy.define(document(main=[choice(sums=["seen"], count="never")])).fly()

    assert run.state is RunState.SUCCEEDED, run.error_message
    receipt = copy.receipts(run)["main.probes"]
    assert (receipt["status"], receipt["rows_source"]) == ("landed", None)
    assert receipt["sums"] == {"seen": {key: {"values": 3, "total": "6"} for key in ("source", "destination")}}


def test_a_second_incremental_run_reads_nothing_new_and_a_third_what_came(copy: Copy):
    copy.define(document(stream(**INCREMENTAL)))
    assert copy.fly().rows_written == 3
    state = copy.kept()["main.probes"]
    assert state

    again = copy.fly()
    assert (again.state, again.rows_written) == (RunState.SUCCEEDED, 0), again.error_message
    add_rows(copy.file, 4, 5)
    assert copy.fly().rows_written == 2

    assert copy.count() == 5
    assert copy.kept()["main.probes"] != state


def test_a_reset_stream_is_read_again_without_doubling_its_rows(copy: Copy):
    copy.define(document(stream(**INCREMENTAL)))
    copy.fly()
    with copy.mission.work():
        reset_stream(copy.mission.alice.actor, copy.job_id, "main.probes")

    run = copy.fly()

    assert (run.rows_written, copy.count()) == (3, 3)


def test_one_stream_that_fails_lets_the_others_land(copy: Copy):
    run = copy.define(document(stream(), stream("gone"))).fly()

    assert run.state is RunState.FAILED
    assert run.error_message.startswith("main.gone: ")
    assert (run.error_origin, run.error_kind) == ("source", "configuration")
    assert copy.count() == 3
    assert copy.receipts(run)["main.gone"]["error"]["message"]
    outcomes = {step.name: step.outcome for step in copy.mission.steps(run.id)}
    assert (outcomes["main.probes"], outcomes["main.gone"]) == ("succeeded", "failed")


def test_the_parachute_brings_the_table_back_as_a_run(copy: Copy):
    copy.define(document(stream()))
    copy.fly()
    add_rows(copy.file, 4, 9)
    copy.fly()
    assert copy.count() == 9

    run = copy.restore()

    assert run.state is RunState.SUCCEEDED, run.error_message
    assert copy.count() == 3


@pytest.mark.parametrize("append", [False, True], ids=["upsert", "append"])
def test_after_the_parachute_an_incremental_stream_goes_on_from_there(copy: Copy, append: bool):
    copy.define(document(stream(**INCREMENTAL), main=[choice(append_mode=append)]))
    copy.fly()
    add_rows(copy.file, 4, 5)
    copy.fly()
    run = copy.restore()
    assert (run.state, copy.count()) == (RunState.SUCCEEDED, 3), run.error_message

    again = copy.fly()

    assert again.state is RunState.SUCCEEDED, again.error_message
    assert [row[0] for row in copy.rows()] == [1, 2, 3, 4, 5]


def test_a_source_that_is_gone_fails_with_its_reason_and_the_old_table_stays(copy: Copy):
    copy.define(document(stream()))
    copy.fly()
    copy.file.unlink()

    run = copy.fly()

    assert run.state is RunState.FAILED
    assert copy.file.name in run.error_message
    assert run.error_origin == "source"
    assert copy.count() == 3


def test_a_run_that_waits_for_the_destination_is_cancelled(copy: Copy):
    copy.define(document(stream()))
    mission = copy.mission
    with mission.hold(copy.lake):
        with mission.work():
            run_id = runs.start_run(mission.alice.actor, copy.job_id).id
        mission.wait_until_running(run_id)
        mission.cancel(run_id)
        run = mission.wait_until_ended(run_id)

    assert run.state is RunState.CANCELLED
    assert copy.fly().state is RunState.SUCCEEDED


def test_types_that_the_document_only_hints_at_are_those_of_the_source(copy: Copy):
    hints = {name: {"type": ["string", "null"], "destination_column_name": name} for name in ("id", "name", "seen")}
    run = copy.define(document(stream(type_schema={"properties": hints}))).fly()

    assert run.state is RunState.SUCCEEDED, run.error_message
    assert copy.rows()[0] == (1, "probe 1", 1)


def test_chosen_columns_and_a_filter_reach_the_table(copy: Copy):
    chosen = [choice(filter="seen >= 2", columns=["name"])]
    run = copy.define(document(stream(), main=chosen)).fly()

    assert run.state is RunState.SUCCEEDED, run.error_message
    found = copy.mission.query("SELECT name, seen FROM lake_main.probes ORDER BY seen", copy.lake)
    assert found == [("probe 2", 2), ("probe 3", 3)]


def test_another_attempt_leaves_alone_what_has_landed(copy: Copy):
    copy.define(document(stream(), stream("late")))
    mission = copy.mission
    with mission.work():
        run_id = runs.start_run(mission.alice.actor, copy.job_id).id
    mission.wait_until_ended(run_id)
    receipt = copy.receipts(mission.run(run_id))["main.probes"]
    lease = Lease(run_id, copy.job_id, 1, 2, 1, spec_of_run(mission, run_id), landed=[receipt])
    heard: list[object] = []
    telephone = Telephone(Listening(heard), lease)

    outcome = execute_sync(lease, telephone, run_context(mission.settings, telephone, lambda: False, lease))

    assert outcome.name == "failed"
    assert (outcome.rows_read, outcome.message.startswith("main.late: ")) == (3, True)
    steps = [message for message in heard if isinstance(message, Step) and message.name == "main.probes"]
    assert [step.outcome for step in steps] == ["succeeded"]
    assert steps[0].facts["stream"] == receipt


class Listening:
    """The worker's end of a telephone."""

    def __init__(self, heard: list[object]) -> None:
        self.send = heard.append


def spec_of_run(mission: Mission, run_id: uuid.UUID) -> dict[str, object]:
    """What the run executes."""
    with mission.look() as session:
        return session.scalars(sa.select(Run.spec).where(Run.id == run_id)).one()
