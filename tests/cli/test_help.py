"""The commands explain themselves, and load only what they need."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sampan.cli import VERBS, app

HEAVY = ("aiohttp", "numpy", "grpc", "ruamel", "cryptography", "uvloop", "sqlite3")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_says_what_it_does(verb: str) -> None:
    shown = CliRunner().invoke(app, [verb, "--help"])
    assert shown.exit_code == 0
    assert "Usage: " in shown.output
    assert len(shown.output.splitlines()) > 5


def test_the_list_of_verbs_is_the_help() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert all(verb in shown for verb in VERBS)


def loaded(*arguments: str) -> set[str]:
    """Which of the heavy packages a command line imports."""
    script = (
        "import sys\n"
        "from sampan.cli import app\n"
        f"try: app({list(arguments)!r}, prog_name='sampan')\n"
        "except SystemExit: pass\n"
        f"print('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_help_loads_nothing_heavy() -> None:
    assert loaded("--help") == set()


@pytest.mark.parametrize("verb", ["up", "down", "ps", "logs", "image", "kubeconfig"])
def test_the_help_of_a_client_verb_loads_nothing_heavy(verb: str) -> None:
    assert loaded(verb, "--help") == set()


def test_a_verb_that_does_not_exist_is_named() -> None:
    done = CliRunner().invoke(app, ["fly"])
    assert done.exit_code != 0
    assert "fly" in done.output
