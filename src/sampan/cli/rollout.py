"""How far a stack is, told from its Deployments and Pods: pure, and the same for `up` and `ps`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from msgspec import field

from sampan.api import kinds
from sampan.api.objects import Condition, Object, Resource, View, condition, is_true

STACK: Final = "sampan.io/stack"
SERVICE: Final = "sampan.io/service"
_STARTING: Final = frozenset({"", "ContainerCreating", "PodInitializing"})


class DeploymentSpec(View):
    replicas: int = 1


class DeploymentStatus(View):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    conditions: list[Condition] = field(default_factory=list)


class Deployment(Resource):
    KIND = kinds.DEPLOYMENTS
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()

    @property
    def rolled_out(self) -> bool:
        """Every replica is of the newest revision, and available; the older ones are gone."""
        status, wanted = self.status, self.spec.replicas
        seen = status.observed_generation >= self.metadata.generation
        return seen and (
            wanted == status.updated_replicas == status.replicas == status.available_replicas
        )

    @property
    def taken_back(self) -> str:
        """Why the newest release was taken back; "" if it was not."""
        seen = self.status.observed_generation >= self.metadata.generation
        told = condition(self.status.conditions, "RolledBack")
        return told.message if seen and told and told.status == "True" else ""


class ReplicaSpec(View):
    node_name: str = ""


class ReplicaState(View):
    container_id: str = field(default="", name="containerID")
    restart_count: int = 0
    started: bool = False
    state: dict[str, Object] = field(default_factory=dict)
    last_state: dict[str, Object] = field(default_factory=dict)


class ReplicaStatus(View):
    phase: str = "Pending"
    reason: str = ""
    conditions: list[Condition] = field(default_factory=list)
    container_statuses: list[ReplicaState] = field(default_factory=list)


class Replica(Resource):
    """A Pod of a stack."""

    KIND = kinds.PODS
    spec: ReplicaSpec = ReplicaSpec()
    status: ReplicaStatus = ReplicaStatus()

    @property
    def service(self) -> str:
        return self.metadata.labels.get(SERVICE, "")

    @property
    def ready(self) -> bool:
        return is_true(self.status.conditions, "Ready")

    @property
    def created(self) -> datetime | None:
        return self.metadata.creation_timestamp

    @property
    def container(self) -> ReplicaState:
        return next(iter(self.status.container_statuses), ReplicaState())

    @property
    def restarts(self) -> int:
        return self.container.restart_count

    @property
    def state(self) -> str:
        """One or two words for a table."""
        if self.metadata.deleting:
            return "stopping"
        if self.ready:
            return "ready"
        if self._unplaced:
            return "no node"
        if reason := str(self.container.state.get("waiting", {}).get("reason", "")):
            return "waiting" if reason == "WaitingForServices" else _words(reason)
        if "running" in self.container.state:
            return "unhealthy" if self.container.started else "starting"
        return _words(self.status.reason or self.status.phase)

    @property
    def _unplaced(self) -> str:
        """Why the scheduler finds no node; "" if it has found one, or has not looked yet."""
        placed = condition(self.status.conditions, "PodScheduled")
        return placed.message if placed and placed.status == "False" else ""

    def why(self) -> str:
        """What keeps it from being ready, for a person."""
        if self._unplaced:
            return f"no node takes it: {self._unplaced}"
        if why := self._why_waiting():
            return why
        if "terminated" in self.container.state:
            return f"its command {self.ending()}"
        if "running" in self.container.state:
            again = f"; before that it {self.ending()}" if self.restarts else ""
            return f"runs, its health check has not passed yet{again}"
        return "starting" if self.spec.node_name else "waits for a node"

    def _why_waiting(self) -> str:
        waiting = self.container.state.get("waiting", {})
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in _STARTING:
            return ""
        if reason == "WaitingForServices":
            return message or "waits for another service"
        if reason == "CrashLoopBackOff":
            return f"its command {self.ending()}, and is started again after a pause"
        return f"{_words(reason)}: {message}" if message else _words(reason)

    def ending(self) -> str:
        """How its last run ended."""
        states = (self.container.state, self.container.last_state)
        ended: Mapping[str, Any] = next((s["terminated"] for s in states if "terminated" in s), {})
        if ended.get("reason") == "OOMKilled":
            return "was killed: it used more memory than its limit"
        if message := str(ended.get("message", "")).strip():
            return f"ended with exit code {ended.get('exitCode')} ({message})"
        return f"ended with exit code {ended.get('exitCode', '?')}"


def _words(reason: str) -> str:
    """`ErrImagePull` for people: `image pull failed`."""
    known = {
        "ErrImagePull": "image pull failed",
        "ImagePullBackOff": "image pull failed",
        "ErrImageNeverPull": "image is not on the node",
        "InvalidImageName": "image name is invalid",
        "CrashLoopBackOff": "crashing",
        "CreateContainerConfigError": "configuration error",
        "CreateContainerError": "container error",
        "RunContainerError": "container error",
    }
    return known.get(reason, reason)


@dataclass(frozen=True, slots=True)
class ServiceState:
    name: str
    ready: int
    wanted: int
    done: bool
    why: str = ""
    failing: str = ""
    """The Pod whose logs explain it."""
    restarted: bool = False
    taken_back: bool = False
    """Whether the release has failed, and the last one is back in its place."""

    def __str__(self) -> str:
        if self.done:
            return f"{self.ready}/{self.wanted} ready"
        return f"{self.ready}/{self.wanted} ready" + (f"; {self.why}" if self.why else "")


def states(
    names: Sequence[str], deployments: Iterable[Deployment], replicas: Iterable[Replica]
) -> list[ServiceState]:
    """Tell for each service of *names* how far it is."""
    by_name = {each.metadata.name: each for each in deployments}
    by_service: dict[str, list[Replica]] = {}
    for replica in replicas:
        by_service.setdefault(replica.service, []).append(replica)
    return [_state(name, by_name.get(name), by_service.get(name, [])) for name in names]


def _state(name: str, deployment: Deployment | None, replicas: Sequence[Replica]) -> ServiceState:
    if deployment is None:
        return ServiceState(name, 0, 0, done=False, why="not created yet")
    alive = [replica for replica in replicas if not replica.metadata.deleting]
    ready = sum(replica.ready for replica in alive)
    wanted = deployment.spec.replicas
    if why := deployment.taken_back:
        return ServiceState(name, ready, wanted, done=False, why=why, taken_back=True)
    if deployment.rolled_out:
        return ServiceState(name, ready, wanted, done=True)
    unready = [replica for replica in alive if not replica.ready]
    if not unready:
        return ServiceState(name, ready, wanted, done=False, why=_waiting(deployment))
    worst = max(unready, key=lambda replica: (replica.restarts, replica.metadata.name))
    return ServiceState(
        name,
        ready,
        wanted,
        done=False,
        why=worst.why(),
        failing=worst.metadata.name,
        restarted=worst.restarts > 0 and "running" not in worst.container.state,
    )


def _waiting(deployment: Deployment) -> str:
    failed = condition(deployment.status.conditions, "ReplicaFailure")
    if failed and failed.status == "True":
        return failed.message
    older = deployment.status.replicas - deployment.status.updated_replicas
    return f"{older} of the last release to be replaced" if older > 0 else ""
