"""What the README promises first: `make demo`, and no trace of it after `make demo-down`."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "demotest"

pytestmark = pytest.mark.e2e


def demo(verb: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "01-hello" / "demo.py"), verb],
        env={**os.environ, "SAMPAN_DEMO": NAME},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture
def shown() -> Iterator[str]:
    """What `make demo` prints."""
    try:
        done = demo("up")
        assert done.returncode == 0, done.stdout + done.stderr
        yield done.stdout
    finally:
        demo("down")


def test_the_demo_is_answered_by_replicas_on_several_nodes_and_can_be_repeated(shown: str) -> None:
    answers = re.findall(r"->  (Ahoy from web-\S+): A small boat .* \[(node-\d)\]", shown)
    assert len(answers) >= 6, shown
    assert len({replica for replica, _ in answers}) >= 2
    assert len({node for _, node in answers}) >= 2
    assert "kubectl get pods -A -o wide" in shown
    again = demo("up")
    assert again.returncode == 0, again.stdout + again.stderr
    gone = demo("down")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert not Path("/var/lib/sampan/dev", NAME).exists()
    assert not Path("/run/sampan/dev", NAME).exists()
    assert not list(Path("/run/netns").glob(f"sampan-{NAME}-*"))
