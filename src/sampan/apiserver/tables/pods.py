"""Pods: one word for what a dozen fields say together."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from sampan.api.objects import Object
from sampan.api.time import parse_time
from sampan.apiserver.tables.columns import AGE, NAME, NONE, Column, at, duration, wide

_FINISHED: Final = frozenset({"Succeeded", "Failed"})


class Summary(Struct, frozen=True):
    ready: int
    total: int
    word: str
    restarts: int
    restarted: datetime | None = None


def summary(pod: Object) -> Summary:
    """What `kubectl get pods` says of *pod*."""
    sidecars = {c["name"] for c in at(pod, "spec", "initContainers", default=())
                if c.get("restartPolicy") == "Always"}  # fmt: skip
    total = len(at(pod, "spec", "containers", default=())) + len(sidecars)
    statuses = at(pod, "status", "containerStatuses", default=())
    starting = at(pod, "status", "initContainerStatuses", default=())
    word, ready = _initialising(pod, starting, sidecars)
    counted: list[Object] = list(starting)
    if word is None or _condition(pod, "Initialized"):
        counted = [*(s for s in starting if s["name"] in sidecars), *statuses]
        word = word or at(pod, "status", "reason") or at(pod, "status", "phase", default="Unknown")
        word = _running(pod, statuses, word)
        ready += sum(_is_ready(status) for status in statuses)
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated"
           for c in at(pod, "status", "conditions", default=())):  # fmt: skip
        word = "SchedulingGated"
    if at(pod, "metadata", "deletionTimestamp"):
        if at(pod, "status", "reason") == "NodeLost":
            word = "Unknown"
        elif at(pod, "status", "phase") not in _FINISHED:
            word = "Terminating"
    restarts = sum(status.get("restartCount", 0) for status in counted)
    return Summary(ready, total, word, restarts, max(_ends(counted), default=None))


def _initialising(
    pod: Object, statuses: Sequence[Object], sidecars: set[str]
) -> tuple[str | None, int]:
    """What holds the Pod before its containers start, and how many sidecars are ready by then."""
    ready = 0
    for index, status in enumerate(statuses):
        ended, waits = at(status, "state", "terminated"), at(status, "state", "waiting", "reason")
        if ended and ended.get("exitCode") == 0:
            continue
        if status["name"] in sidecars and status.get("started"):
            ready += bool(status.get("ready"))
            continue
        if ended:
            return f"Init:{_end(ended)}", ready
        if waits and waits != "PodInitializing":
            return f"Init:{waits}", ready
        return f"Init:{index}/{len(at(pod, 'spec', 'initContainers', default=()))}", ready
    return None, ready


def _running(pod: Object, statuses: Sequence[Object], word: str) -> str:
    for status in reversed(statuses):
        ended = at(status, "state", "terminated")
        if waits := at(status, "state", "waiting", "reason"):
            word = waits
        elif ended:
            word = _end(ended)
    if word == "Completed" and any(map(_is_ready, statuses)):
        return "Running" if _condition(pod, "Ready") else "NotReady"
    return word


def _end(ended: Object) -> str:
    if reason := ended.get("reason"):
        return str(reason)
    if signal := ended.get("signal"):
        return f"Signal:{signal}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _is_ready(status: Object) -> bool:
    return bool(status.get("ready")) and at(status, "state", "running") is not None


def _condition(pod: Object, type_: str) -> bool:
    conditions = at(pod, "status", "conditions", default=())
    return any(c.get("type") == type_ and c.get("status") == "True" for c in conditions)


def _ends(statuses: Sequence[Object]) -> Iterator[datetime]:
    for status in statuses:
        if ended := at(status, "lastState", "terminated", "finishedAt"):
            yield parse_time(ended)


def _ready(pod: Object, _now: datetime) -> str:
    told = summary(pod)
    return f"{told.ready}/{told.total}"


def _restarts(pod: Object, now: datetime) -> str:
    told = summary(pod)
    if not told.restarts or told.restarted is None:
        return str(told.restarts)
    return f"{told.restarts} ({duration((now - told.restarted).total_seconds())} ago)"


def _gates(pod: Object, _now: datetime) -> str:
    gates = at(pod, "spec", "readinessGates", default=())
    if not gates:
        return NONE
    passed = sum(_condition(pod, gate["conditionType"]) for gate in gates)
    return f"{passed}/{len(gates)}"


def _ip(pod: Object, _now: datetime) -> Any:
    addresses = at(pod, "status", "podIPs", default=())
    return addresses[0]["ip"] if addresses else at(pod, "status", "podIP") or NONE


COLUMNS: Final = (
    NAME,
    Column("Ready", _ready),
    Column("Status", lambda pod, _: summary(pod).word),
    Column("Restarts", _restarts),
    AGE,
    wide("IP", _ip),
    wide("Node", lambda pod, _: at(pod, "spec", "nodeName") or NONE),
    wide("Nominated Node", lambda pod, _: at(pod, "status", "nominatedNodeName") or NONE),
    wide("Readiness Gates", _gates),
)
