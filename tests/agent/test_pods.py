"""A node's Pods from the API to the runtime and back, in virtual time."""

import asyncio
from pathlib import Path

import pytest

from sampan.testing.clock import VirtualTimeLoop
from tests.agent.pods_bed import Bed, bed, pod, until


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_a_pod_runs_and_says_so(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod())
        await until(b.is_ready)
        status = (await b.get())["status"]
        assert status["phase"] == "Running"
        assert status["podIP"].startswith("10.42.0.")
        assert status["hostIP"] == "192.0.2.7"
        [main] = status["containerStatuses"]
        assert (main["ready"], main["started"], main["restartCount"]) == (True, True, 0)
        assert main["containerID"].startswith("containerd://")
        assert {c["type"]: c["status"] for c in status["conditions"]} == {
            "PodScheduled": "True",
            "PodReadyToStartContainers": "True",
            "Initialized": "True",
            "ContainersReady": "True",
            "Ready": "True",
        }
