"""What a worker does with a run, from the claim to the end. The worker is a real process."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.engine.api_server import Reply, api_server
from tests.runs.mission import Mission, api_task, task
from webapp.redaction import OWN_SECRETS
from webapp.runs.states import RunState

PROBE = "tests.runs.probe_worker"


def test_a_run_brings_the_rows_into_the_table_and_says_how_many(busy: Mission):
    run = busy.fly(task(busy.csv("hundred.csv", rows=100), table="hundred"))

    assert run.state is RunState.SUCCEEDED, run.error_message
    assert (run.rows_read, run.rows_written, run.rows_found, run.doubt) == (100, 100, 100, None)
    assert busy.count("hundred") == 100
    assert run.started_at <= run.finished_at
    assert run.fraction == 1.0
    assert run.peak_memory_mb > 0
    assert [line.number for line in busy.lines(run.id)] == list(range(1, run.log_lines + 1))
    assert busy.find_line(run.id, "100 rows read")


def test_steps_and_the_attempt_are_kept_with_their_times(busy: Mission):
    run = busy.fly(task(busy.csv("steps.csv"), table="steps"))

    steps = busy.steps(run.id)
    assert (steps[0].name, steps[-1].name) == ("prepare", "commit")
    assert all(step.outcome == "succeeded" and step.finished_at >= step.started_at for step in steps)
    assert steps[-1].facts["rows_written"] == 100
    [attempt] = busy.attempts(run.id)
    assert (attempt.attempt, attempt.outcome) == (1, "succeeded")
    assert run.started_at <= attempt.started_at <= attempt.finished_at


def test_tasks_run_in_order_and_the_first_that_fails_stops_the_run(busy: Mission):
    first, never = task(busy.csv("order.csv"), table="order_a"), task("order.csv", table="order_c")
    run = busy.fly(first, task("not there.csv", table="order_b"), never)

    assert run.state is RunState.FAILED
    assert "not there.csv" in run.error_message
    assert busy.count("order_a") == 100
    tables = {name for (name,) in busy.query("SELECT table_name FROM information_schema.tables")}
    assert tables.isdisjoint({"order_b", "order_c"})
    assert {step.task for step in busy.steps(run.id)} == {1, 2}


def test_a_permanent_error_is_not_tried_again(busy: Mission):
    run = busy.fly(task("absent.csv"), max_attempts=5)

    assert (run.state, run.attempt) == (RunState.FAILED, 1)
    assert (run.error_origin, run.error_kind) == ("source", "configuration")
    assert len(busy.attempts(run.id)) == 1


def test_a_transient_error_is_tried_again_with_a_growing_pause_and_a_log_for_each_attempt(busy: Mission):
    answers = [Reply(status=503), Reply(status=503), Reply([{"id": 1}, {"id": 2}])]
    with api_server(lambda _: answers.pop(0)) as server:
        run = busy.fly(api_task(server.url, table="third_time"), max_attempts=3, retry_delay_seconds=0.3)

    assert (run.state, run.attempt, run.rows_written) == (RunState.SUCCEEDED, 3, 2), run.error_message
    first, second, third = busy.attempts(run.id)
    assert [attempt.outcome for attempt in (first, second, third)] == ["failed", "failed", "succeeded"]
    assert (second.started_at - first.finished_at).total_seconds() >= 0.3
    assert (third.started_at - second.finished_at).total_seconds() >= 0.6
    for attempt in (1, 2):
        assert busy.find_line(run.id, "503", attempt=attempt)
    assert busy.find_line(run.id, "2 rows read", attempt=3)


def test_a_transient_error_that_stays_ends_the_run_after_the_last_attempt(busy: Mission):
    with api_server(lambda _: Reply(status=503)) as server:
        run = busy.fly(api_task(server.url), max_attempts=2)

    assert (run.state, run.attempt) == (RunState.FAILED, 2)
    assert "503" in run.error_message
    assert (run.error_origin, run.error_kind) == ("source", "transient")


def test_the_next_attempt_goes_on_with_the_task_that_failed(busy: Mission):
    """Else the rows that an earlier task has appended would be there twice."""
    busy.csv("append.csv", rows=10)
    answers = [Reply(status=503), Reply([{"id": 1}])]
    with api_server(lambda _: answers.pop(0)) as server:
        tasks = task("append.csv", table="appended", mode="append"), api_task(server.url, table="after")
        run = busy.fly(*tasks, max_attempts=2)

    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2), run.error_message
    assert busy.count("appended") == 10
    assert (run.rows_read, run.rows_written, run.rows_found) == (11, 11, 11)
    assert {step.task for step in busy.steps(run.id) if step.attempt == 2} == {2}


def test_a_run_that_takes_too_long_is_stopped_and_says_so(busy: Mission):
    with busy.hold("long.duckdb"):
        run = busy.fly(task(busy.csv("long.csv"), db="long.duckdb"), timeout_seconds=0.5)

    assert run.state is RunState.FAILED
    assert "time limit of 0.5 s" in run.error_message


def test_a_run_that_makes_no_progress_is_stopped_and_says_so(busy: Mission):
    with busy.hold("stuck.duckdb"):
        run = busy.fly(task(busy.csv("stuck.csv"), db="stuck.duckdb"), no_progress_seconds=0.5)

    assert run.state is RunState.FAILED
    assert "made no progress for 0.5 s" in run.error_message


def test_a_queued_run_is_cancelled_at_once(mission: Mission):
    run_id = mission.start(mission.add_job())
    mission.cancel(run_id)

    run = mission.run(run_id)
    assert (run.state, run.error_message, run.attempt) == (RunState.CANCELLED, "cancelled by alice", 0)


def test_a_running_run_that_is_cancelled_ends_by_itself_and_its_old_table_stays(busy: Mission):
    busy.csv("cancel.csv", rows=7)
    assert busy.fly(task("cancel.csv", db="cancel.duckdb")).rows_found == 7
    busy.csv("cancel.csv", rows=9)
    with busy.hold("cancel.duckdb"):
        run_id = busy.start(busy.add_job(task("cancel.csv", db="cancel.duckdb"), max_attempts=3))
        busy.wait_until_running(run_id)
        busy.cancel(run_id)
        run = busy.wait_until_ended(run_id, seconds=5)

    assert (run.state, run.attempt, run.error_message) == (RunState.CANCELLED, 1, "cancelled by alice")
    assert "ended the work by itself" in busy.find_line(run_id, "Stopped: cancelled by alice")
    assert busy.count(db="cancel.duckdb") == 7


def test_a_cancelled_run_that_does_not_listen_is_killed_within_its_deadline_with_proof(busy: Mission):
    busy.csv("deaf.csv", rows=7)
    busy.fly(task("deaf.csv", db="deaf.duckdb"))
    with busy.hold("deaf.duckdb"):
        run_id = busy.start(busy.add_job(task("deaf.csv", db="deaf.duckdb"), max_attempts=3))
        child = busy.child_of(busy.wait_until_running(run_id))
        child.send_signal(signal.SIGSTOP)
        busy.cancel(run_id)
        run = busy.wait_until_ended(run_id, seconds=5)

    assert (run.state, run.attempt) == (RunState.CANCELLED, 1)
    assert f"Process {child.pid} did not end within 1 s and was killed" in busy.find_line(run_id, "Stopped")
    assert not child.is_running()
    assert busy.count(db="deaf.duckdb") == 7


def test_a_run_whose_process_is_killed_is_tried_again_and_the_worker_goes_on(busy: Mission):
    with busy.hold("killed.duckdb"):
        run_id = busy.start(busy.add_job(task(busy.csv("killed.csv"), db="killed.duckdb"), max_attempts=2))
        busy.child_of(busy.wait_until_running(run_id)).kill()
        busy.wait_until_running(run_id, attempt=2)
    run = busy.wait_until_ended(run_id)

    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2), run.error_message
    assert "was killed" in busy.attempts(run_id)[0].error_message
    assert busy.count(db="killed.duckdb") == 100
    assert all(step.finished_at is not None for step in busy.steps(run_id)), "a step of the killed attempt stayed open"


def test_a_run_leaves_no_temporary_files_whether_it_ends_well_or_is_killed(busy: Mission):
    good = busy.fly(task(busy.csv("temp.csv"), table="temp_rows"))
    with busy.hold("temp.duckdb"):
        run_id = busy.start(busy.add_job(task("temp.csv", db="temp.duckdb")))
        busy.child_of(busy.wait_until_running(run_id)).kill()
        busy.wait_until_ended(run_id)

    temp = busy.settings.hohmann_home / "tmp"
    assert not [path for path in temp.glob("*") if path.name in {str(good.id), str(run_id)}]


def test_secrets_of_a_job_are_struck_out_of_log_and_error(busy: Mission):
    def leak(asked):
        return Reply({"you sent": asked.headers.get("Authorization")}, status=400)

    with api_server(leak) as server:
        secret = api_task(server.url, bearer_token="s3cr3t-planted-value")
        run = busy.fly(secret)
        by_header = busy.fly(api_task(server.url, headers={"Authorization": "Token an0ther-planted-value"}))

    for ended in (run, by_header):
        assert ended.state is RunState.FAILED
        said = ended.error_message + "".join(line.message for line in busy.lines(ended.id))
        assert "400" in said
        assert "planted-value" not in said
    assert "planted-value" not in busy.workers[0].output()


def test_text_that_no_database_takes_does_not_stop_the_worker(busy: Mission):
    run = busy.fly(task("nul\x00 in the name.csv"))

    assert run.state is RunState.FAILED
    assert run.error_message
    assert busy.fly().state is RunState.SUCCEEDED


def test_a_kind_of_job_that_the_worker_does_not_know_fails_with_a_clear_reason(busy: Mission):
    ended = busy.wait_until_ended(busy.start_kind("teleport", max_attempts=3))

    assert (ended.state, ended.attempt) == (RunState.FAILED, 1)
    assert "cannot execute a job of kind 'teleport'" in ended.error_message


def test_children_find_neither_the_keys_nor_the_address_of_the_database(mission: Mission):
    mission.start_worker(PROBE, SECRET_KEY="a" * 40, AIRFLOW_PASSWORD="x", OF_NO_INTEREST="kept")
    run_id = mission.start_kind("environment")
    mission.wait_until_ended(run_id)

    names = mission.find_line(run_id, "environment: ").split()
    assert OWN_SECRETS.isdisjoint(names)
    assert {"OF_NO_INTEREST", "HOHMANN_HOME", "PATH"} <= set(names), "what the stack does not know is passed on"


def test_a_child_that_grew_past_its_limit_is_replaced_after_its_run(mission: Mission):
    mission.start_worker(PROBE, RUN_MEMORY_MB="200", WORKER_SLOTS="1")
    first, second = [mission.start_kind("grow") for _ in range(2)]
    mission.wait_until_ended(first)
    mission.wait_until_ended(second)

    assert mission.find_line(first, "kept: 1")
    assert mission.find_line(second, "kept: 1"), "it ran in the process that had grown"


def test_a_child_that_rests_gives_the_memory_of_its_last_run_back(mission: Mission):
    worker = mission.start_worker(PROBE, RUN_MEMORY_MB="4000", WORKER_SLOTS="1")
    first = mission.start_kind("grow")
    mission.wait_until_ended(first)
    [fat] = psutil.Process(worker.pid).children()

    def successors() -> list[psutil.Process]:
        return [child for child in psutil.Process(worker.pid).children() if child.pid != fat.pid]

    mission.wait_for(lambda: not fat.is_running(), seconds=30, what="the process that rests to be let go")
    mission.wait_for(successors, seconds=30, what="another process to take its place")
    [fresh] = successors()
    assert fresh.memory_full_info().uss < 60_000_000
    again = mission.start_kind("grow")
    mission.wait_until_ended(again)
    assert mission.find_line(again, "kept: 1"), "it ran in the process that was to be replaced"


def test_the_last_words_of_a_process_that_is_killed_are_in_the_log(mission: Mission):
    mission.start_worker(PROBE)
    run = mission.wait_until_ended(mission.start_kind("die"))

    assert run.state is RunState.FAILED
    assert mission.find_line(run.id, "these are my last words")


def test_a_talkative_run_loses_no_line_and_keeps_their_order(mission: Mission):
    mission.start_worker(PROBE)
    run = mission.wait_until_ended(mission.start_kind("chatter"))

    assert run.state is RunState.SUCCEEDED
    said = [line.message for line in mission.lines(run.id, search="line ", limit=30_000)]
    assert said == [f"line {number}" for number in range(20_000)]


def test_one_worker_executes_as_many_runs_at_once_as_it_has_places(busy: Mission):
    meeting = threading.Barrier(2, timeout=15)

    def meet(_asked):
        meeting.wait()  # nobody gets an answer before both have asked
        return Reply([{"id": 1}])

    with api_server(meet) as server:
        ids = [busy.start(busy.add_job(api_task(server.url, table=f"meet{n}"))) for n in (1, 2)]
        ended = [busy.wait_until_ended(run_id) for run_id in ids]

    assert [run.state for run in ended] == [RunState.SUCCEEDED] * 2, [run.error_message for run in ended]


def test_a_run_begins_at_once_without_waiting_for_a_poll(busy: Mission):
    busy.fly()
    waits = []
    for _ in range(5):
        time.sleep(0.05)
        run = busy.fly()
        waits.append((run.started_at - run.created_at).total_seconds())
    assert sorted(waits)[2] < 1.0, f"{waits}: a look without a signal comes every five seconds"


def test_a_child_is_used_again_while_it_is_clean(busy: Mission):
    busy.fly()
    pids = {child.pid for child in busy.workers[0].children()}
    for _ in range(4):
        busy.fly()
    assert {child.pid for child in busy.workers[0].children()} == pids


def test_many_short_runs_of_one_job_never_exceed_its_limit(busy: Mission):
    under_way, most = [], []
    lock = threading.Lock()

    def answer(_asked):
        with lock:
            under_way.append(1)
            most.append(len(under_way))
        time.sleep(0.02)
        with lock:
            under_way.pop()
        return Reply([{"id": 1}])

    with api_server(answer) as server:
        job_id = busy.add_job(api_task(server.url, table="one_by_one"), concurrency_limit=1)
        ended = [busy.wait_until_ended(run_id) for run_id in [busy.start(job_id) for _ in range(6)]]

    assert {run.state for run in ended} == {RunState.SUCCEEDED}
    assert max(most) == 1


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_worker_says_what_it_is_in_its_command_line_and_its_children_are_its_own(busy: Mission):
    worker = psutil.Process(busy.workers[0].pid)
    assert "worker" in " ".join(worker.cmdline())
    assert all(child.ppid() == worker.pid for child in busy.workers[0].children())
    assert os.getpid() not in {child.pid for child in worker.children()}
