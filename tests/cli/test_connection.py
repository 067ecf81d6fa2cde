"""Which cluster a command means."""

import os
from pathlib import Path

import msgspec
import pytest
import typer

from sampan.cli import connection
from sampan.cli.connection import find_kubeconfig
from sampan.cli.processes import Process


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(connection, "SERVER", tmp_path / "server" / "kubeconfig")
    monkeypatch.setattr(connection, "DEV_DATA", tmp_path / "dev")
    monkeypatch.setattr(connection, "DEV_RUN", tmp_path / "run")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def dev_cluster(places: Path, name: str, *, running: bool) -> Path:
    if running:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        record = file(places / "run" / name / "server" / "process.json")
        record.write_bytes(msgspec.json.encode(Process(os.getpid(), int(fields[19]))))
    return file(places / "dev" / name / "server" / "kubeconfig")


def failure(capsys: pytest.CaptureFixture[str], given: Path | None = None, dev: str = "") -> str:
    with pytest.raises(typer.Exit) as ended:
        find_kubeconfig(given, dev=dev)
    assert ended.value.exit_code == 1
    return capsys.readouterr().err


def test_what_is_given_comes_first(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = file(places / "mine")
    monkeypatch.setenv("KUBECONFIG", str(file(places / "other")))
    assert find_kubeconfig(given) == given


def test_then_the_environment_then_the_server_then_the_dev_cluster(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = dev_cluster(places, "one", running=True)
    dev_cluster(places, "two", running=False)
    assert find_kubeconfig() == only
    server = file(places / "server" / "kubeconfig")
    assert find_kubeconfig() == server
    named = file(places / "named")
    monkeypatch.setenv("KUBECONFIG", f"{places / 'absent'}{os.pathsep}{named}")
    assert find_kubeconfig() == named


def test_a_dev_cluster_by_name(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = dev_cluster(places, "two", running=False)
    assert find_kubeconfig(dev="two") == two
    shown = failure(capsys, dev="three")
    assert "there is no dev cluster 'three'" in shown
    assert "two" in shown


def test_nothing_anywhere_says_how_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert "sampan dev up" in failure(capsys)


def test_a_stopped_cluster_is_named(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev_cluster(places, "one", running=False)
    assert "sampan dev up --name one" in failure(capsys)


def test_several_clusters_are_named(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        dev_cluster(places, name, running=True)
    shown = failure(capsys)
    assert "one, two" in shown
    assert "--kubeconfig" in shown


def test_files_that_are_not_there_are_named(
    places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "/no/file" in failure(capsys, Path("/no/file"))
    monkeypatch.setenv("KUBECONFIG", "/no/such")
    assert "/no/such" in failure(capsys)
