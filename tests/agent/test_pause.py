"""The pause program, run on this machine."""

import os
import platform
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from sampan.agent import pause
from sampan.agent.archives import image_names

native = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"}, reason="there is no pause for this processor"
)
CHILD = "sleep 0.1 & exec {program}"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "pause"
    path.write_bytes(pause.program())
    path.chmod(0o755)
    return path


@native
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_waits_and_ends_well_on_a_signal(program: Path, number: signal.Signals) -> None:
    with subprocess.Popen([program]) as running:
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.1)
        running.send_signal(number)
        assert running.wait(5) == 0


@native
def test_it_reaps_its_children(program: Path) -> None:
    with subprocess.Popen(["sh", "-c", CHILD.format(program=program)]) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        deadline = time.monotonic() + 5
        while (running.pid and children.read_text()) or _name(running.pid) != "pause":
            assert time.monotonic() < deadline, "a zombie is left"
            time.sleep(0.02)
        running.terminate()


@native
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_it_ends_on_a_signal_as_the_first_process_of_a_namespace(program: Path) -> None:
    command = ["unshare", "--pid", "--fork", str(program)]
    with subprocess.Popen(command) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        deadline = time.monotonic() + 5
        while not (inner := children.read_text().strip()) or _name(int(inner)) != "pause":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(int(inner), signal.SIGTERM)
        assert outer.wait(5) == 0


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_it_is_a_small_static_program_for_its_machine(machine: str, number: int) -> None:
    made = pause.program(machine)
    assert made[:4] == b"\x7fELF"
    assert struct.unpack_from("<HH", made, 16) == (2, number)
    assert len(made) < 300


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(pause.UnknownMachine, match="riscv64"):
        pause.program("riscv64")


def test_the_archive_names_the_image_and_is_the_same_every_time(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(pause.archive("x86_64"))
    assert list(image_names(tmp_path / "a.tar")) == [pause.IMAGE]
    assert pause.archive("x86_64") == pause.archive("x86_64")


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
