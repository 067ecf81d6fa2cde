"""Logs that are full are set aside, and the oldest parts go."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sampan.agent.logs import LogFile
from sampan.agent.rotation import Rotation, remove_log
from sampan.agent.runtime import (
    CONTAINER_NAME,
    IMAGE_ASKED,
    POD_UID,
    Container,
    ContainerConfig,
    SandboxConfig,
)
from sampan.testing.runtime import Behaviour, FakeRuntime

START = datetime(2026, 1, 1, tzinfo=UTC)


class Bed:
    def __init__(self, base: Path) -> None:
        self.runtime = FakeRuntime({"app": Behaviour()})
        self.base = base
        self.now = START
        self.rotation = Rotation(
            self.runtime, self.running, lambda: self.now, most_bytes=100, most_files=3
        )

    def running(self) -> list[Container]:
        return [run for run in self.runtime.runs() if run.running]

    async def start(self) -> Path:
        box = SandboxConfig(name="p", namespace="d", uid="u", log_directory=str(self.base))
        sandbox = await self.runtime.run_sandbox(box)
        labels = {POD_UID: "u", CONTAINER_NAME: "main"}
        config = ContainerConfig(
            name="main",
            image="docker.io/library/app:latest",
            labels=labels,
            annotations={IMAGE_ASKED: "app"},
            log_path="0.log",
        )
        made = await self.runtime.create_container(sandbox, config, box)
        await self.runtime.start_container(made)
        return self.base / "0.log"

    async def fill(self, path: Path, word: str) -> None:
        with path.open("a") as file:
            file.write(f"{word} " * 30 + "\n")
        self.now += timedelta(seconds=1)
        await self.rotation.sweep()


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


async def test_a_full_log_is_set_aside_and_read_on_through(bed: Bed) -> None:
    path = await bed.start()
    await bed.fill(path, "first")
    assert path.read_text() == ""
    assert len(list(bed.base.iterdir())) == 2
    await bed.fill(path, "second")
    log = LogFile(path)
    lines = [line.split()[0] for line in log.start(None)]
    log.close()
    assert lines == [b"first", b"second"]


async def test_of_many_parts_the_newest_stay(bed: Bed) -> None:
    path = await bed.start()
    for word in ("a", "bb", "ccc", "dddd"):
        await bed.fill(path, word * 4)
    parts = sorted(bed.base.iterdir())
    assert len(parts) == 3
    assert [part.read_text()[:3] for part in parts] == ["", "ccc", "ddd"]
    remove_log(path)
    assert list(bed.base.iterdir()) == []


async def test_a_log_that_is_not_full_is_left_alone(bed: Bed) -> None:
    path = await bed.start()
    path.write_text("little")
    await bed.rotation.sweep()
    assert path.read_text() == "little"
    assert ("reopen_log", bed.runtime.runs()[0].id) not in bed.runtime.calls


async def test_when_the_runtime_does_not_go_on_the_log_keeps_its_name(bed: Bed) -> None:
    path = await bed.start()
    bed.runtime.fails["reopen_log"] = "no"
    await bed.fill(path, "word")
    assert path.read_text().startswith("word")
    assert list(bed.base.iterdir()) == [path]
