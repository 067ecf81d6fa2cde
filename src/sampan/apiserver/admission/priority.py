"""The priority of a new Pod: that of its PriorityClass, or of the default class."""

from collections.abc import Iterable
from typing import Final

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.apiserver.problems import forbidden

SYSTEM_PRIORITIES: Final = {
    "system-cluster-critical": 2_000_000_000,
    "system-node-critical": 2_000_001_000,
}
_PREEMPT: Final = "PreemptLowerPriority"


def set_priority(pod: Object, classes: Iterable[Object]) -> None:
    """Set the priority that the Pod's class, or else the default class, has."""
    spec = pod["spec"]
    found = _priority_class(pod, classes)
    value = found["value"] if found else 0
    if spec.get("priority") not in (None, value):
        raise forbidden(
            kinds.PODS,
            pod["metadata"].get("name", ""),
            f"the integer value of priority ({spec['priority']}) must not be provided in pod "
            f"spec; priority admission controller computed {value} from the given "
            "PriorityClass name",
        )
    spec["priority"] = value
    if found:
        spec["priorityClassName"] = found["metadata"]["name"]
    spec.setdefault("preemptionPolicy", (found or {}).get("preemptionPolicy") or _PREEMPT)


def _priority_class(pod: Object, classes: Iterable[Object]) -> Object | None:
    name = pod["spec"].get("priorityClassName")
    if not name:
        defaults = [one for one in classes if one.get("globalDefault")]
        return min(defaults, key=lambda one: int(one["value"]), default=None)
    for one in classes:
        if one["metadata"]["name"] == name:
            return one
    raise forbidden(
        kinds.PODS,
        pod["metadata"].get("name", ""),
        f"no PriorityClass with name {name} was found",
    )
