"""Situations for tests of the pure core: a Pod, what runs for it, what is remembered."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sampan.agent.memory import ContainerMemory, Memory, Seen
from sampan.agent.plan import Situation
from sampan.agent.runtime import Container, Sandbox, State
from sampan.agent.spec import NodePod

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def make_pod(*names: str, meta: Any = None, status: Any = None, **spec: Any) -> NodePod:
    """A Pod with containers of these names (or `main`); *spec* overrides."""
    containers = [{"name": name, "image": "app"} for name in names or ("main",)]
    metadata = {"name": "web", "namespace": "default", "uid": "u1", "generation": 1}
    return NodePod.of(
        {
            "metadata": {**metadata, **(meta or {})},
            "spec": {"nodeName": "n1", "containers": containers, **spec},
            "status": status or {},
        }
    )


def sandbox(attempt: int = 0, *, ready: bool = True) -> Sandbox:
    return Sandbox(
        id=f"s{attempt}",
        name="web",
        namespace="default",
        uid="u1",
        attempt=attempt,
        ready=ready,
        created_at=ago(100),
        ips=("10.42.0.5",),
    )


def running(name: str = "main", attempt: int = 0, *, box: str = "s0", **more: Any) -> Container:
    facts: dict[str, Any] = {
        "id": f"{name}-{attempt}",
        "sandbox": box,
        "uid": "u1",
        "name": name,
        "attempt": attempt,
        "state": State.RUNNING,
        "created_at": ago(60),
        "started_at": ago(60),
        "image": "docker.io/library/app:latest",
        "image_ref": "docker.io/library/app@sha256:1",
        "image_asked": "app",
    }
    return Container(**{**facts, **more})


def ended(
    name: str = "main", attempt: int = 0, *, code: int = 0, since: float = 5, **more: Any
) -> Container:
    return running(
        name, attempt, state=State.EXITED, exit_code=code, finished_at=ago(since), **more
    )


def situation(
    pod: NodePod | None = None,
    *containers: Container,
    sandboxes: tuple[Sandbox, ...] = (sandbox(),),
    memory: dict[str, ContainerMemory] | None = None,
    **more: Any,
) -> Situation:
    """By default the volumes are there and the sandbox works."""
    facts: dict[str, Any] = {"started_at": ago(100), "prepared": True, "containers": memory or {}}
    facts.update(more.pop("remembered", {}))
    return Situation(
        pod=pod or make_pod(),
        seen=Seen(sandboxes, containers),
        memory=Memory(**facts),
        now=more.pop("now", NOW),
        **more,
    )
