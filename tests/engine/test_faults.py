"""Whatever breaks, the old table stays and the reason is said."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.engine.conftest import World
from tests.support.disks import small_disk
from webapp.engine.context import Silence
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

LONG = 1_500_000


@pytest.fixture
def long_csv(world: World) -> Iterator[Path]:
    path = world.data / "long.csv"
    duckdb.execute(f"COPY (SELECT range AS id, md5(range::VARCHAR) AS h FROM range({LONG})) TO '{path}' (HEADER)")
    yield path
    path.unlink()


def old_table(world: World) -> None:
    world.write("old.csv", "id,h\n1,old\n")
    world.load("old.csv")


def test_a_file_that_is_not_duckdb_is_refused_and_left_alone(world: World) -> None:
    world.write("a.csv", "id\n1\n")
    world.write("notes.txt", "hello\n" * 2000)
    with pytest.raises(EngineError, match="not a DuckDB") as caught:
        world.load("a.csv", db="notes.txt")
    assert (caught.value.origin, caught.value.permanent) == (Origin.DESTINATION, True)
    assert (world.data / "notes.txt").read_text() == "hello\n" * 2000


def test_a_first_load_that_fails_leaves_no_file(world: World) -> None:
    world.write("a.csv", "id,name\n" + "1,a\n" * 500_000 + "1\n")
    with pytest.raises(EngineError):
        world.load("a.csv")
    assert sorted(path.name for path in world.data.iterdir()) == ["a.csv", "out.duckdb.lock"]


def test_a_folder_that_cannot_be_written_is_named(world: World) -> None:
    world.write("a.csv", "id\n1\n")
    world.write("blocked", "a file where a folder should be")
    with pytest.raises(EngineError, match="folder") as caught:
        world.load("a.csv", db="blocked/x.duckdb")
    assert (caught.value.origin, caught.value.kind) == (Origin.DESTINATION, Kind.SYSTEM)


def as_child(world: World, before: str = "", after: str = "") -> list[str]:
    code = f"""
        import sys, resource
        from pathlib import Path
        from webapp.engine.context import Context, Silence
        from webapp.engine.errors import EngineError
        from webapp.engine.tasks import run_task
        data = Path({str(world.data)!r})
        context = Context(data_root=data, allowed_roots=(), warehouse=data / "w", temp=Path({str(world.temp)!r}),
                          reporter=Silence())
        {before}
        try:
            receipt = run_task({{"type": "csv", "path": "long.csv"}},
                               {{"type": "duckdb", "db_path": "out.duckdb", "table_name": "orders"}}, context)
            print(receipt.rows_found, receipt.doubt)
        except EngineError as error:
            print(error.origin, error.kind, error.permanent, error.message)
        {after}
    """
    return [sys.executable, "-c", textwrap.dedent(code)]


def test_a_full_disk_is_named_and_the_old_table_stays(world: World, long_csv: Path) -> None:
    old_table(world)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))"
    ignored = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    said = subprocess.run(as_child(world, ignored + limit), capture_output=True, text=True, timeout=60)
    assert said.stdout.startswith("destination system False the disk is full"), said
    assert world.query("FROM orders") == [(1, "old")]
    assert world.load("long.csv").rows_found == LONG


def test_a_really_full_disk_is_named_and_the_old_table_stays(world: World, long_csv: Path) -> None:
    with small_disk(world.data / "small", megabytes=8) as small:
        world.write("old.csv", "id,h\n1,old\n")
        world.load("old.csv", db="small/out.duckdb")
        with pytest.raises(EngineError, match="disk is full") as caught:
            world.load("long.csv", db="small/out.duckdb")
        assert (caught.value.origin, caught.value.kind) == (Origin.DESTINATION, Kind.SYSTEM)
        assert world.query("FROM orders", db="small/out.duckdb") == [(1, "old")]
        assert (small / "out.duckdb").stat().st_size < 1 << 20
        assert world.load("old.csv", db="small/out.duckdb", mode="append").rows_found == 1


@pytest.mark.parametrize("delay", [0.35, 0.5, 0.8])
def test_a_killed_load_leaves_the_old_table_and_the_next_one_works(world: World, long_csv: Path, delay: float) -> None:
    old_table(world)
    child = subprocess.Popen(as_child(world, 'print("go", flush=True)'), stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert world.query("FROM orders LIMIT 1") in ([(1, "old")], [(0, "cfcd208495d565ef66e7dff9f98764da")])
    assert world.load("long.csv").rows_found == LONG


def test_cancelling_stops_within_a_second_and_keeps_the_old_table(world: World, long_csv: Path) -> None:
    old_table(world)
    asked: list[float] = []

    def cancelled() -> bool:
        if world.heard.started[-1:] == ["load"] and not asked:
            asked.append(time.monotonic())
        return bool(asked) and time.monotonic() - asked[0] > 0.2

    world.heard.started.clear()
    with pytest.raises(Cancelled):
        world.load("long.csv", context=world.context(cancelled=cancelled, threads=1))
    assert time.monotonic() - asked[0] < 1.2
    assert world.query("FROM orders") == [(1, "old")]


def test_a_load_cancelled_beforehand_does_nothing(world: World, long_csv: Path) -> None:
    with pytest.raises(Cancelled):
        world.load("long.csv", context=world.context(cancelled=lambda: True))
    assert not (world.data / "out.duckdb").exists()


def test_a_reporter_that_fails_ends_the_load(world: World, long_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.engine.watch._TELL", 0.1)

    class Broken(Silence):
        def progress(self, rows_read: int, rows_written: int, bytes_read: int, fraction: float | None) -> None:
            raise BrokenPipeError("the worker is gone")

    with pytest.raises(BrokenPipeError):
        world.load("long.csv", context=world.context(reporter=Broken(), threads=1))


def test_progress_is_told_while_rows_move(world: World, long_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.engine.watch._TELL", 0.1)
    world.load("long.csv", context=world.context(threads=1))
    fractions = [fraction for _, _, _, fraction in world.heard.moved if fraction is not None]
    assert len(fractions) >= 3
    assert fractions == sorted(fractions)
    assert world.heard.moved[-1][:2] == (LONG, LONG)


def test_two_loads_and_a_query_at_once_all_succeed(world: World, long_csv: Path) -> None:
    from webapp.engine.preview import preview_table

    old_table(world)
    results: list[object] = []

    def run(name: str) -> None:
        try:
            results.append(world.load("long.csv", table=name).rows_found)
        except EngineError as error:
            results.append(error)

    loader = {"type": "duckdb", "db_path": "out.duckdb", "table_name": "orders"}
    threads = [threading.Thread(target=run, args=(name,)) for name in ("orders", "other")]
    for thread in threads:
        thread.start()
    seen = {preview_table(loader, world.context(lock_timeout=30)).total for _ in range(5)}
    for thread in threads:
        thread.join()
    assert results == [LONG, LONG]
    assert seen <= {1, LONG}


def test_a_load_that_waits_for_another_says_so(world: World) -> None:
    world.write("few.csv", "id\n1\n")
    with (world.data / "out.duckdb.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        other = threading.Timer(1.0, lambda: fcntl.flock(handle, fcntl.LOCK_UN))
        other.start()
        assert world.load("few.csv").rows_found == 1
        other.join()
    assert any("waiting for out.duckdb" in message for _, message in world.heard.logs)


def foreign(world: World, seconds: float) -> subprocess.Popen[str]:
    code = (
        f"import duckdb, time; c = duckdb.connect({str(world.data / 'out.duckdb')!r}); "
        f"print('open', flush=True); time.sleep({seconds})"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def test_a_program_that_does_not_know_our_lock_is_waited_for(world: World) -> None:
    old_table(world)
    child = foreign(world, 1.0)
    world.write("a.csv", "id\n1\n")
    assert world.load("a.csv").rows_found == 1
    child.communicate()
    assert any(str(child.pid) in message for _, message in world.heard.logs)


def test_a_file_that_stays_in_use_is_a_transient_error_that_names_the_holder(world: World) -> None:
    old_table(world)
    child = foreign(world, 30)
    try:
        with pytest.raises(EngineError, match=rf"out\.duckdb.*PID {child.pid}") as caught:
            world.load("old.csv", context=world.context(lock_timeout=0.3))
        assert (caught.value.kind, caught.value.permanent) == (Kind.TRANSIENT, False)
    finally:
        child.kill()
        child.communicate()


def test_memory_stays_bounded_by_its_limit(world: World, long_csv: Path) -> None:
    # ru_maxrss would also know the peak of the tests' own process, which this one was forked from
    peak = "print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024)"
    said = subprocess.run(as_child(world, after=peak), capture_output=True, text=True, timeout=60, check=True)
    found, rss = said.stdout.splitlines()
    assert found == f"{LONG} None"
    assert int(rss) <= 500


def test_a_child_forked_after_the_import_can_load(world: World) -> None:
    import webapp.engine.flow  # noqa: F401  what the worker imports before it forks

    world.write("a.csv", "id\n1\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if world.load("a.csv").rows_found == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
