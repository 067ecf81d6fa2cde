"""The default store: durable creates a second, what group commit saves, and what a watch costs."""

import argparse
import asyncio
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from measure import Figure, report, stopwatch

from sampan.store.interface import ABSENT
from sampan.store.sqlite import SqliteStore

WRITERS = 64
VALUE = b"x" * 1500


async def create(store: SqliteStore, name: str, count: int) -> None:
    for n in range(count):
        await store.write(f"{name}/{n}", VALUE, expect=ABSENT)


async def concurrent_creates(store: SqliteStore, run: int, count: int) -> float:
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n in range(WRITERS):
            group.create_task(create(store, f"/many/{run}/{n}", count // WRITERS))
    return count // WRITERS * WRITERS / (time.monotonic() - began)


async def watch(store: SqliteStore, since: int, count: int) -> None:
    async with aclosing(store.watch("/", since=since)) as changes:
        seen = 0
        while seen < count:
            seen += len(await anext(changes))


async def deliveries(store: SqliteStore, watchers: int, count: int) -> float:
    """Deliver *count* changes to each of *watchers*, as fast as they are written."""
    since, began = store.revision, time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(watchers):
            group.create_task(watch(store, since, count))
        for n in range(WRITERS):
            group.create_task(create(store, f"/watched/{since}/{n}", count // WRITERS))
    return watchers * count / (time.monotonic() - began)


async def measure(path: Path, *, runs: int, count: int) -> list[Figure]:
    creates = Figure(f"durable creates, {WRITERS} writers", "/s")
    commits = Figure("commits per write", "")
    latency = Figure("one writer, latency of a write", "ms")
    volatile = Figure("volatile writes, one writer", "/s")
    delivered = Figure("watch deliveries, 100 watchers", "/s")
    store = SqliteStore(path, volatile=("/leases/",))
    for run in range(runs):
        before = store.statistics()
        with stopwatch() as watch_:
            creates.values.append(await concurrent_creates(store, run, count))
        creates.cpu.append(watch_.cpu)
        after = store.statistics()
        commits.values.append((after.commits - before.commits) / (after.writes - before.writes))
        began = time.monotonic()
        await create(store, f"/one/{run}", count // 20)
        latency.values.append((time.monotonic() - began) * 1000 / (count // 20))
        began = time.monotonic()
        await create(store, f"/leases/{run}", count)
        volatile.values.append(count / (time.monotonic() - began))
        delivered.values.append(await deliveries(store, 100, WRITERS * 20))
    await store.close()
    return [creates, commits, latency, volatile, delivered]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="fewer runs, for a first look")
    quick = options.parse_args().quick
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-store-") as where:
        path = Path(where) / "state.db"
        figures = asyncio.run(
            measure(path, runs=2 if quick else 5, count=2_000 if quick else 20_000)
        )
    report("store", figures)


if __name__ == "__main__":
    main()
