"""An operator that runs for real, under kopf: it creates, follows changes, and finalizes."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import Tools

_WITHIN = 30
DEFINITION = Path(__file__).parent / "chart" / "crds" / "boats.yaml"
OPERATOR = Path(__file__).parent / "sessions" / "operator_of_boats.py"


@pytest.fixture
def operator(tools: Tools) -> Iterator[Path]:
    tools.kubectl("apply", "-f", str(DEFINITION))
    tools.kubectl("wait", "crd/boats.boats.example", "--for=condition=Established")
    log = tools.home / "operator.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "kopf", "run", "--standalone", "-n", tools.namespace, OPERATOR],
            env=tools.environment,
            stdout=written,
            stderr=written,
        )
        try:
            yield log
        finally:
            process.terminate()
            process.wait(_WITHIN)


def test_an_operator_creates_follows_and_finalizes(tools: Tools, operator: Path) -> None:
    tools.kubectl("create", "cm", "ship", "--from-literal=motto=row")
    tools.kubectl("annotate", "cm", "ship", "boats.example/wanted=yes")
    until(lambda: _motto(tools) == "row", operator)
    tools.kubectl("patch", "cm", "ship", "-p", '{"data":{"motto":"sail"}}')
    until(lambda: _motto(tools) == "sail", operator)
    assert tools.kubectl("get", "cm", "ship", "-o", "jsonpath={.metadata.finalizers[0]}") == (
        "boats.example/finalizer"
    )
    tools.kubectl("delete", "cm", "ship", "--timeout=30s")
    assert "ship-farewell" in tools.kubectl("get", "cm", "-o", "name")
    until(lambda: not _motto(tools), operator)  # the Secret goes with its owner
    until(lambda: "Launched" in tools.kubectl("get", "events"), operator)


def test_an_operator_serves_a_custom_resource(tools: Tools, operator: Path) -> None:
    boat = {"apiVersion": "boats.example/v1", "kind": "Boat", "metadata": {"name": "skiff"}}
    refused = tools.attempt("kubectl", "create", "-f", "-", stdin=json.dumps({**boat, "spec": {}}))
    assert "spec.motto: Required value" in refused.stderr
    made = {**boat, "spec": {"motto": "row"}}
    tools.kubectl("create", "-f", "-", stdin=json.dumps(made))
    until(lambda: tools.kubectl("get", "bt", "skiff", "-o", "jsonpath={.status.afloat}") == "true",
          operator)  # fmt: skip


def _motto(tools: Tools) -> str:
    got = tools.attempt("kubectl", "get", "secret", "ship-key", "-o", "jsonpath={.data.motto}")
    return base64.b64decode(got.stdout).decode()


def until(holds: Callable[[], bool], log: Path) -> None:
    """Wait until *holds*; fail with the operator's own words after a while."""
    deadline = time.monotonic() + _WITHIN
    while not holds():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
