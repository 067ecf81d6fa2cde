"""Python's client libraries against a live cluster: each session is a program of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import Tools

SESSIONS = Path(__file__).parent / "sessions"


@pytest.mark.parametrize("library", ["kubernetes", "kubernetes_asyncio", "kr8s", "lightkube"])
def test_a_session_of(library: str, tools: Tools) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", SESSIONS / f"on_{library}.py"],
        env={**tools.environment, "NAMESPACE": tools.namespace},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
