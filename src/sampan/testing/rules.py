"""Scheduling rules on a bench: a few nodes, a file of rules, and what they make of Pods."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from sampan.api.objects import Node, Object
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import HOSTNAME, Demands
from sampan.scheduler.explain import explain
from sampan.scheduler.own import load
from sampan.scheduler.place import Placed, Placer
from sampan.scheduler.views import Pod

_serial: Final = count(1)


def node(
    name: str,
    labels: Mapping[str, str] | None = None,
    *,
    cpu: str = "4",
    memory: str = "16Gi",
    **resources: str,
) -> Object:
    """Return a ready node with room for 110 Pods."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {HOSTNAME: name, **(labels or {})}},
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": "110", **resources},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(
    name: str = "",
    labels: Mapping[str, str] | None = None,
    *,
    cpu: str = "100m",
    memory: str = "64Mi",
    **spec: Any,
) -> Object:
    """Return a Pod of one container; *spec* goes into its spec as it is."""
    number = next(_serial)
    requests = {"cpu": cpu, "memory": memory}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name or f"pod-{number}",
            "namespace": "default",
            "uid": f"uid-{number}",
            "labels": dict(labels or {}),
        },
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}], **spec},
    }


class Bench:
    """Places Pods on *nodes* by the rules in *path*, as the server would."""

    def __init__(self, path: Path, *nodes: Object) -> None:
        self.own = load(path)
        self._table = Table()
        self._placer = Placer(self._table, self.own.profiles)
        self._demands = Demands()
        for each in nodes:
            self._table.set_node(Node.of(each))

    def place(self, raw: Object) -> str | None:
        """Return the node that a Pod gets, None if it is refused; it stays there."""
        pod = Pod.of(raw)
        [outcome] = self._placer.place([(pod.metadata.uid, self._demands.of(pod))])
        return outcome.node if isinstance(outcome, Placed) else None

    def ratings(self, raw: Object) -> Mapping[str, float]:
        """Return what each node that would take a Pod is worth."""
        return self._placer.ratings(self._placer.ask(self._demands.of(Pod.of(raw))))

    def why(self, raw: Object) -> str:
        """Return what a refused Pod would be told."""
        return str(explain(self._placer, self._placer.ask(self._demands.of(Pod.of(raw)))))

    @property
    def faults(self) -> Sequence[str]:
        """What went wrong in rules so far."""
        return self.own.sandbox.faults
