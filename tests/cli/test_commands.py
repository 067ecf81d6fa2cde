"""The client verbs against a real server without nodes: what they print, and how they fail."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sampan.cli import app


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("server")
    command = [
        *(sys.executable, "-m", "sampan", "server", "--no-agent", "--data-dir", str(data)),
        *("--listen", "127.0.0.1", "--advertise", "127.0.0.1", "--port", str(free_port())),
    ]
    with (data / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not (data / "kubeconfig").exists():
            assert server.poll() is None, (data / "log").read_text()
            assert time.monotonic() < deadline, (data / "log").read_text()
            time.sleep(0.05)
        yield data / "kubeconfig"
    finally:
        server.terminate()
        server.wait(20)


class Commands:
    def __init__(self, kubeconfig: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.chdir(directory)
        self.file = directory / "compose.yaml"

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    def ok(self, *arguments: str) -> str:
        done = self(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def listed(self, replicas: int) -> str:
        """What `ps` shows once the controllers have made so many Pods."""
        deadline = time.monotonic() + 20
        while (shown := self.ok("ps")).count("\n") != replicas + 2:
            assert time.monotonic() < deadline, shown
        return shown

    def refused(self, *arguments: str) -> str:
        """What an error looks like: exit 1, a first line that says what, and no traceback."""
        done = self(*arguments)
        assert done.exit_code == 1, done.output
        assert isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.output
        return done.stderr


@pytest.fixture
def sampan(kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    commands = Commands(kubeconfig, tmp_path, monkeypatch)
    yield commands
    for name in ("shop", "other"):
        commands("down", "--project", name)


SHOP = """\
name: shop
services:
  web: {image: "web:1", ports: ["8080:80"], deploy: {replicas: 2}}
  db: {image: "db:1"}
"""


def test_up_without_waiting_then_ps_then_down(sampan: Commands) -> None:
    sampan.write(SHOP)
    assert "sampan ps --project shop" in sampan.ok("up", "-d")
    listed = sampan.listed(replicas=3)
    assert "web 0/2" in listed
    assert "db 0/1" in listed
    assert listed.splitlines()[0].split() == [
        *("SERVICE", "REPLICA", "NODE", "STATE", "AGE", "RESTARTS", "PORTS")
    ]
    assert listed.count("8080->80/tcp") == 2
    assert "shop is gone" in sampan.ok("down")
    assert "no application runs" in sampan.refused("ps")


def test_ps_of_several_applications_tells_them_apart(sampan: Commands) -> None:
    sampan.write(SHOP)
    sampan.ok("up", "-d")
    taken = sampan.refused("up", "-d", "--project", "other")
    assert "port 8080/tcp of web-published is taken: shop publishes it already" in taken
    sampan.write(SHOP.replace("8080", "8081"))
    sampan.ok("up", "-d", "--project", "other")
    listed = sampan.ok("ps")
    assert [line for line in listed.splitlines() if line in {"shop", "other"}] == ["other", "shop"]
    assert "web 0/2" in sampan.ok("ps", "--project", "other")


def test_up_that_is_not_ready_in_time_names_what_it_waits_for(sampan: Commands) -> None:
    sampan.write(SHOP)
    shown = sampan.refused("up", "--timeout", "2")
    assert "shop is not up after 2 s: web, db" in shown
    assert "no node takes it" in shown
    assert "sampan logs --project shop" in shown


def test_up_says_what_is_wrong_with_the_file(sampan: Commands) -> None:
    assert "there is no Compose file in" in sampan.refused("up")
    assert "there is no file nowhere.yaml" in sampan.refused("up", "-f", "nowhere.yaml")
    sampan.write("services:\n  web: [\n")
    assert "compose.yaml:3: not YAML" in sampan.refused("up")
    sampan.write("services:\n  web:\n    image: x\n    isolation: [a]\n    ports: ['x']\n")
    assert "compose.yaml:4: services.web.isolation: `isolation` is refused" in sampan.refused("up")
    sampan.write("services:\n  web:\n    image: x\n    ports: ['[bold]']\n")
    assert "'[bold]' is no port" in sampan.refused("up")


def test_the_files_may_be_named_by_the_environment(
    sampan: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text("name: shop\nservices: {web: {image: 'web:1'}}")
    (tmp_path / "b.yaml").write_text("services: {web: {deploy: {replicas: 2}}}")
    monkeypatch.setenv("COMPOSE_FILE", "a.yaml:b.yaml")
    sampan.ok("up", "-d")
    assert "web 0/2" in sampan.listed(replicas=2)
    monkeypatch.setenv("COMPOSE_FILE", "c.yaml")
    assert "there is no file c.yaml" in sampan.refused("up")


def test_a_variable_that_is_not_set_is_a_warning(sampan: Commands) -> None:
    sampan.write("name: shop\nservices:\n  web:\n    image: x$SOME_TAG\n")
    done = sampan("up", "-d")
    assert done.exit_code == 0
    assert "compose.yaml:4: $SOME_TAG is not set" in done.stderr


def test_up_leaves_a_namespace_that_is_no_stack_alone(sampan: Commands) -> None:
    sampan.write("services: {web: {image: x}}")
    shown = sampan.refused("up", "--project", "kube-system")
    assert "cannot be named 'kube-system'" in shown


def test_an_application_that_does_not_run_is_named_with_those_that_do(sampan: Commands) -> None:
    for verb in ("down", "ps", "logs"):
        assert "there is no application 'nix'" in sampan.refused(verb, "--project", "nix")
    sampan.write(SHOP)
    sampan.ok("up", "-d")
    assert "running here: shop" in sampan.refused("logs", "--project", "nix")
    assert "shop has no service 'cache'" in sampan.refused("logs", "--project", "shop", "cache")
    sampan.write(SHOP.replace("8080", "8081"))
    sampan.ok("up", "-d", "--project", "other")
    sampan.file.unlink()
    shown = sampan.refused("down")
    assert "which application?" in shown
    assert "other, shop" in shown


def test_logs_of_replicas_that_have_not_started_say_so(sampan: Commands) -> None:
    sampan.write(SHOP)
    sampan.ok("up", "-d")
    sampan.listed(replicas=3)
    done = sampan("logs")
    assert done.exit_code == 0
    assert done.stderr.count("web-") >= 2


def test_the_archives_of_a_new_cluster_are_none(sampan: Commands) -> None:
    assert "sampan image load FILE" in sampan.ok("image", "ls")
    assert "there is no file /no/file" in sampan.refused("image", "load", "/no/file")


def test_what_is_no_archive_is_refused(sampan: Commands, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.tar"
    nonsense.write_text("this is not an image")
    assert "not an image archive" in sampan.refused("image", "load", str(nonsense))


def test_a_server_that_does_not_answer_is_named(
    sampan: Commands, kubeconfig: Path, tmp_path: Path
) -> None:
    absent = tmp_path / "absent"
    server = next(line for line in kubeconfig.read_text().splitlines() if '"server"' in line)
    text = kubeconfig.read_text().replace(server, '"server": "https://127.0.0.1:1",')
    absent.write_text(text)
    for verb in ("ps", "down", "logs"):
        shown = sampan.refused(verb, "--project", "x", "--kubeconfig", str(absent))
        assert "https://127.0.0.1:1 cannot be reached" in shown


def test_a_kubeconfig_that_is_none_is_named(sampan: Commands, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    for content, message in (("a: [", "is not YAML"), ("a: b", "is not a kubeconfig")):
        wrong.write_text(content)
        assert message in sampan.refused("ps", "--kubeconfig", str(wrong))


def test_the_kubeconfig_is_printed_as_it_is(sampan: Commands, kubeconfig: Path) -> None:
    assert sampan.ok("kubeconfig") == kubeconfig.read_text()
