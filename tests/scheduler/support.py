"""Nodes and Pods in a line each, and a table that places them."""

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sampan.api.objects import Node, Object
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import HOSTNAME, ZONE, Demand, Demands
from sampan.scheduler.explain import Explanation, explain
from sampan.scheduler.place import Placed, Placer
from sampan.scheduler.views import Pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_serial = itertools.count(1)


def raw_node(
    name: str,
    labels: Mapping[str, str] | None = None,
    *,
    zone: str = "",
    taints: tuple[str, ...] = (),
    ready: bool = True,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "110",
    unschedulable: bool = False,
    images: Mapping[str, int] | None = None,
    **resources: str,
) -> Object:
    """*taints* are written `key=value:Effect` or `key:Effect`."""
    labels = {HOSTNAME: name, **({ZONE: zone} if zone else {}), **(labels or {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [_taint(text) for text in taints], "unschedulable": unschedulable},
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods, **resources},
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "images": [{"names": [n], "sizeBytes": s} for n, s in (images or {}).items()],
        },
    }


def _taint(text: str) -> Object:
    key, _, effect = text.rpartition(":")
    key, _, value = key.partition("=")
    return {"key": key, "value": value, "effect": effect}


def node(name: str, *args: Any, **kwargs: Any) -> Node:
    return Node.of(raw_node(name, *args, **kwargs))


def raw_pod(
    name: str = "",
    labels: Mapping[str, str] | None = None,
    *,
    namespace: str = "default",
    owner: str = "",
    cpu: str = "",
    memory: str = "",
    **spec: Any,
) -> Object:
    number = next(_serial)
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v}
    container = {"name": "c", "image": "web", "resources": {"requests": requests}}
    metadata: Object = {
        "name": name or f"pod-{number}",
        "namespace": namespace,
        "uid": f"pod-uid-{number}",
        "labels": dict(labels or {}),
    }
    if owner:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": owner,
                "uid": owner,
                "controller": True,
            }
        ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], **spec},
    }


def pod(*args: Any, **kwargs: Any) -> Pod:
    return Pod.of(raw_pod(*args, **kwargs))


def toleration(text: str) -> Object:
    """`key=value:Effect`, `key:Effect`, `key:` (any effect), or `:` (everything)."""
    key, _, effect = text.rpartition(":")
    key, equal, value = key.partition("=")
    how = {"operator": "Equal", "value": value} if equal else {"operator": "Exists"}
    return {**how, **({"key": key} if key else {}), **({"effect": effect} if effect else {})}


def expression(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, "values": list(values)}


def required_nodes(*terms: Object) -> Object:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


def apart(labels: Mapping[str, str], key: str = HOSTNAME, **term: Any) -> Object:
    return {"podAntiAffinity": {REQUIRED: [_term(labels, key, term)]}}


def beside(labels: Mapping[str, str], key: str = HOSTNAME, **term: Any) -> Object:
    return {"podAffinity": {REQUIRED: [_term(labels, key, term)]}}


def likes(sort: str, labels: Mapping[str, str], key: str = HOSTNAME, weight: int = 100) -> Object:
    """*sort* is podAffinity or podAntiAffinity."""
    return {sort: {PREFERRED: [{"weight": weight, "podAffinityTerm": _term(labels, key, {})}]}}


def _term(labels: Mapping[str, str], key: str, term: Mapping[str, Any]) -> Object:
    return {"topologyKey": key, "labelSelector": {"matchLabels": dict(labels)}, **term}


def spread(
    labels: Mapping[str, str], key: str = ZONE, skew: int = 1, *, hard: bool = True, **more: Any
) -> Object:
    return {
        "maxSkew": skew,
        "topologyKey": key,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(labels)},
        **more,
    }


class Cluster:
    """A table, its placer, and where everything went."""

    def __init__(self, *nodes: Node) -> None:
        self.table = Table()
        self.placer = Placer(self.table)
        self.demands = Demands()
        self.at: dict[str, str] = {}
        self.placed: dict[str, Pod] = {}
        for each in nodes:
            self.table.set_node(each)

    def demand(self, pod: Pod) -> Demand:
        return self.demands.of(pod)

    def place(self, pod: Pod) -> str | None:
        """Return the node that *pod* got, None if it was refused."""
        [outcome] = self.placer.place([(pod.metadata.uid, self.demand(pod))])
        if not isinstance(outcome, Placed):
            return None
        self.at[pod.metadata.uid] = outcome.node
        self.placed[pod.metadata.uid] = pod
        return outcome.node

    def bind(self, pod: Pod, node: str, *, leaving: bool = False) -> None:
        """Count *pod* on *node*, as a watch would tell."""
        self.table.add(pod.metadata.uid, self.demand(pod), node, leaving=leaving)
        self.at[pod.metadata.uid] = node
        self.placed[pod.metadata.uid] = pod

    def remove(self, pod: Pod) -> None:
        self.table.remove(pod.metadata.uid)
        self.at.pop(pod.metadata.uid, None)
        self.placed.pop(pod.metadata.uid, None)

    def allowed(self, pod: Pod) -> set[str]:
        """Return every node that would take *pod* now."""
        return set(self.placer.ratings(self.placer.ask(self.demand(pod))))

    def rating(self, pod: Pod) -> Mapping[str, float]:
        return self.placer.ratings(self.placer.ask(self.demand(pod)))

    def why(self, pod: Pod) -> Explanation:
        return explain(self.placer, self.placer.ask(self.demand(pod)))

    def spread(self, *pods: Pod) -> list[int]:
        """Return how many of *pods* each node that has any got, in order of size."""
        return sorted(Counter(self.at[p.metadata.uid] for p in pods).values())
