"""What the file promises: nothing acknowledged is lost, no revision is used twice, no surprise."""

import asyncio
import itertools
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from sampan.api.errors import Conflict, Expired
from sampan.store import journal, sqlite
from sampan.store.errors import (
    CannotOpen,
    Closed,
    Damaged,
    DiskFull,
    InUse,
    NewerFormat,
    NotWritable,
    WriteFailed,
)
from sampan.store.interface import ABSENT, Change
from sampan.store.sqlite import SqliteStore

LEASES = "/leases/"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, volatile=(LEASES,))
    try:
        yield store
    finally:
        await store.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (a thread's progress has no event to wait for)
            await asyncio.sleep(0.001)


async def test_a_store_that_is_opened_again_has_what_was_written(path: Path) -> None:
    async with opened(path) as store:
        kept = await store.write("/pods/a", b"1", expect=ABSENT)
        gone = await store.write("/pods/b", b"1", expect=ABSENT)
        last = await store.write("/pods/b", None, expect=gone)
    async with opened(path) as store:
        page = await store.list("/")
        assert page.items == [Change("/pods/a", kept, b"1")]
        assert page.revision == last + 1, "a clean end wastes one revision, and only one"


async def test_only_its_owner_may_read_the_file(path: Path) -> None:
    async with opened(path) as store:
        await store.write("/secrets/a", b"1", expect=ABSENT)
        modes = {file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {0o600}


async def test_a_watch_from_before_a_restart_expires(path: Path) -> None:
    async with opened(path) as store:
        seen = await store.write("/pods/a", b"1", expect=ABSENT)
    async with opened(path) as store:
        with pytest.raises(Expired):
            await anext(store.watch("/", since=seen))


async def test_many_writers_share_few_commits(path: Path) -> None:
    async with opened(path) as store:
        await asyncio.gather(*(store.write(f"/pods/{n}", b"1", expect=ABSENT) for n in range(200)))
        counted = store.statistics()
        assert counted.writes == 200
        assert counted.commits <= 3
        assert counted.waiting == 0


async def test_volatile_keys_are_listed_and_watched_but_never_on_disk(path: Path) -> None:
    async with opened(path) as store:
        await store.write("/pods/a", b"1", expect=ABSENT)
        since = store.revision
        commits = store.statistics().commits
        lease = await store.write(LEASES + "n1", b"heartbeat", expect=ABSENT)
        lease = await store.write(LEASES + "n1", b"heartbeat", expect=lease)
        assert store.statistics().commits == commits
        assert [c.key for c in (await store.list(LEASES)).items] == [LEASES + "n1"]
        assert (await anext(store.watch(LEASES, since=since)))[0].revision == since + 1
    assert b"heartbeat" not in path.read_bytes()
    async with opened(path) as store:
        assert [c.key for c in (await store.list("/")).items] == ["/pods/a"]
        assert store.revision > lease


async def test_a_volatile_write_does_not_wait_for_the_commit_of_its_own_batch(path: Path) -> None:
    async with opened(path) as store:
        await store.write("/pods/a", b"1", expect=ABSENT)
        with held_commits(store) as release:
            async with asyncio.TaskGroup() as group:
                durable = group.create_task(store.write("/pods/b", b"1", expect=ABSENT))
                light = group.create_task(store.write(LEASES + "n", b"1", expect=ABSENT))
                async with asyncio.timeout(10):
                    await asyncio.shield(light)
                assert not durable.done()
                release()


async def test_nobody_sees_a_write_before_it_is_durable(path: Path) -> None:
    async with opened(path) as store:
        await store.write("/pods/a", b"1", expect=ABSENT)
        since = store.revision
        with held_commits(store) as release:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(store.write("/pods/b", b"1", expect=ABSENT))
                watching = group.create_task(anext(store.watch("/", since=since)))
                await until(lambda: store._job)
                assert len((await store.list("/")).items) == 1
                assert not writing.done()
                assert not watching.done()
                release()


async def test_closing_commits_what_waits(path: Path) -> None:
    store = SqliteStore(path)
    async with asyncio.TaskGroup() as group:
        for n in range(5):
            group.create_task(store.write(f"/pods/{n}", b"1", expect=ABSENT))
        await asyncio.sleep(0)
        await store.close()
    async with opened(path) as store:
        assert len((await store.list("/")).items) == 5


async def test_the_log_is_moved_into_the_database_when_idle(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_IDLE", 0.01)
    async with opened(path) as store:
        revision = await store.write("/pods/a", b"found in the file", expect=ABSENT)
        await until(lambda: not store._job and not store._journal.wants_checkpoint)
        assert b"found in the file" in path.read_bytes()
        await store.write("/pods/a", b"2", expect=revision)


async def test_the_log_stays_small_under_constant_load(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 200_000)
    async with opened(path) as store:
        last = dict.fromkeys(range(10), ABSENT)
        for n in range(20):
            value = bytes([n]) * 10_000
            writes = [store.write(f"/pods/{k}", value, expect=r) for k, r in last.items()]
            last = dict(enumerate(await asyncio.gather(*writes)))
        assert path.with_name("state.db-wal").stat().st_size < 1_000_000


WRITER = """
import asyncio, itertools, sys
from sampan.store.sqlite import SqliteStore

async def write(store, name):
    for n in itertools.count():
        key = f"{name}/{n}"
        print(key, await store.write(key, b"x" * 1500, expect=0), flush=True)

async def main():
    store = SqliteStore(sys.argv[1], volatile=("/leases/",))
    names = [f"/pods/{n}" for n in range(8)] + ["/leases/a"]
    await asyncio.gather(*(write(store, name) for name in names))

asyncio.run(main())
"""


async def test_killed_while_writing_it_loses_nothing_acknowledged_and_reuses_no_revision(
    path: Path,
) -> None:
    for lines in (40, 400):
        file = path.with_name(f"{lines}.db")
        acknowledged = kill_a_writer(file, lines)
        used = set(acknowledged.values())
        assert len(used) == len(acknowledged) >= lines
        async with opened(file) as store:
            found = {c.key: c.revision for c in (await store.list("/")).items}
            durable = {k: r for k, r in acknowledged.items() if not k.startswith(LEASES)}
            assert durable.items() <= found.items()
            assert not any(key.startswith(LEASES) for key in found)
            assert await store.write("/new", b"1", expect=ABSENT) > max(used)


def kill_a_writer(path: Path, lines: int) -> dict[str, int]:
    """Let a process write until it printed *lines* acknowledgements; kill it; return them all."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        said = list(itertools.islice(writer.stdout, lines))
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
    whole = [line.split() for line in said if line.endswith("\n")]
    return {key: int(found) for key, found in whole}


async def test_a_crash_after_nothing_but_volatile_writes_reuses_no_revision(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "RESERVE", 10)
    async with opened(path) as store:
        last = ABSENT
        for n in range(35):
            last = await store.write(LEASES + "n", b"1", expect=last)
            async with opened(as_after_a_crash(path, f"crash-{n}")) as survivor:
                assert survivor.revision > last
        assert store.statistics().commits < 10


def as_after_a_crash(path: Path, name: str) -> Path:
    """Copy what the kernel would have of the files if the process died now."""
    copy = path.with_name(f"{name}.db")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size*: to SQLite, that is a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


async def test_what_does_not_fit_is_refused_and_the_store_goes_on(path: Path) -> None:
    async with opened(path) as store:
        first = await store.write("/pods/a", b"1", expect=ABSENT)
        with full_disk(100_000):
            with pytest.raises(WriteFailed, match="nothing was written"):
                await store.write("/pods/b", bytes(1_000_000), expect=ABSENT)
            assert store.revision == first
            assert store.statistics().failures == 1
            lease = await store.write(LEASES + "n", b"1", expect=ABSENT)
            assert lease == first + 1
        again = await store.write("/pods/b", bytes(1_000_000), expect=ABSENT)
        assert again == lease + 1
    async with opened(path) as store:
        assert [c.key for c in (await store.list("/")).items] == ["/pods/a", "/pods/b"]


async def test_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    where = tmp_path / "small"
    where.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", where], check=False
    ).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        async with opened(where / "state.db") as store:
            with pytest.raises(DiskFull, match="free some room"):
                await store.write("/pods/a", bytes(1_000_000), expect=ABSENT)
            await store.write("/pods/a", b"small", expect=ABSENT)
    finally:
        subprocess.run(["umount", where], check=True)


async def test_of_a_batch_that_fails_every_writer_hears_of_it(path: Path) -> None:
    async with opened(path) as store:
        await store.write("/pods/a", b"1", expect=ABSENT)
        with full_disk(100_000):
            answers = await asyncio.gather(
                *(store.write(f"/new/{n}", bytes(1_000_000), expect=ABSENT) for n in range(5)),
                return_exceptions=True,
            )
        assert all(isinstance(answer, WriteFailed) for answer in answers)
        assert len({id(answer) for answer in answers}) == 5
        assert len((await store.list("/")).items) == 1


async def test_a_key_that_cannot_be_stored_fails_alone_in_the_end(path: Path) -> None:
    async with opened(path) as store:
        with pytest.raises(WriteFailed):
            await store.write("/pods/\ud800", b"1", expect=ABSENT)
        assert await store.write("/pods/a", b"1", expect=ABSENT)


async def test_a_second_process_is_told_who_is_first(path: Path) -> None:
    async with opened(path):
        said = subprocess.run(
            [sys.executable, "-c", WRITER, str(path)], capture_output=True, text=True, check=False
        )
    assert "InUse" in said.stderr
    assert "another process has it open" in said.stderr


async def test_a_store_of_this_process_cannot_be_opened_twice_either(path: Path) -> None:
    async with opened(path):
        with pytest.raises(InUse):
            SqliteStore(path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"my precious notes, surely not a database\n" * 100)
    before = path.read_bytes()
    with pytest.raises(Damaged, match="restore a backup"):
        SqliteStore(path)
    assert path.read_bytes() == before


async def test_a_broken_database_is_refused_and_left_alone(path: Path) -> None:
    async with opened(path) as store:
        await asyncio.gather(
            *(store.write(f"/pods/{n}", bytes(2000), expect=ABSENT) for n in range(100))
        )
    broken = bytearray(path.read_bytes())
    broken[4096 * 3 : 4096 * 9] = b"\xff" * 4096 * 6
    path.write_bytes(broken)
    with pytest.raises(Damaged):
        SqliteStore(path)
    assert path.read_bytes() == broken


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE songs (title TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(Damaged, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


async def test_a_newer_format_is_refused_and_left_alone(path: Path) -> None:
    async with opened(path):
        pass
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version=2")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(NewerFormat, match="has format 2"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match="no such directory"):
        SqliteStore(tmp_path / "nowhere" / "state.db")


def test_a_directory_in_place_of_the_file_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(NotWritable, match=r"state\.db"):
        SqliteStore(path)


async def test_a_closed_store_says_so(path: Path) -> None:
    async with opened(path) as store:
        pass
    with pytest.raises(Closed):
        await store.write("/pods/a", b"1", expect=ABSENT)


async def test_writers_that_race_with_a_commit_still_meet_its_outcome(path: Path) -> None:
    async with opened(path) as store:
        await store.write("/other", b"1", expect=ABSENT)
        with held_commits(store) as release:
            async with asyncio.TaskGroup() as group:
                first = group.create_task(store.write("/pods/a", b"1", expect=ABSENT))
                await until(lambda: store._job)
                second = group.create_task(refused(store, "/pods/a"))
                await asyncio.sleep(0)
                release()
        assert second.result()
        assert (await store.list("/pods/")).items == [Change("/pods/a", first.result(), b"1")]


async def refused(store: SqliteStore, key: str) -> bool:
    try:
        await store.write(key, b"2", expect=ABSENT)
    except Conflict:
        return True
    return False


@contextmanager
def held_commits(store: SqliteStore) -> Iterator[Callable[[], None]]:
    """Hold every commit of *store* back until what this gives is called."""
    let_go = threading.Event()
    commit = store._journal.commit

    def held(*args: object) -> None:
        assert let_go.wait(10)
        commit(*args)  # type: ignore[arg-type]

    store._journal.commit = held  # type: ignore[method-assign, assignment]
    try:
        yield let_go.set
    finally:
        let_go.set()
        store._journal.commit = commit  # type: ignore[method-assign]
