"""Which nodes a DaemonSet means, and the Pod that it puts on one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import convert

from sampan.api.objects import Node, Object, Pod, Taint, Toleration
from sampan.api.selectors import Requirement
from sampan.controllers.history import HASH
from sampan.controllers.replicaset import pod_from_template
from sampan.controllers.views_apps import DaemonSet

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_NODE: Final = "node.kubernetes.io"
_STAYS: Final = tuple(
    Toleration(key=f"{_NODE}/{key}", operator="Exists", effect=effect)
    for key, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
)
_ON_THE_HOST: Final = Toleration(f"{_NODE}/network-unavailable", "Exists", effect="NoSchedule")


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a Pod *belongs* on a node, and if not, whether one that is there *stays*."""

    belongs: bool
    stays: bool


def fit(ds: DaemonSet, node: Node) -> Fit:
    spec: Object = ds.spec.template.get("spec") or {}
    if spec.get("nodeName", node.metadata.name) != node.metadata.name or not _chosen(spec, node):
        return Fit(belongs=False, stays=False)
    accepted = [*convert(spec.get("tolerations") or (), list[Toleration]), *_added(spec)]
    refused = [t for t in node.spec.taints if not _tolerated(t, accepted)]
    belongs = all(taint.effect not in {"NoSchedule", "NoExecute"} for taint in refused)
    return Fit(belongs, stays=all(taint.effect != "NoExecute" for taint in refused))


def _tolerated(taint: Taint, accepted: Iterable[Toleration]) -> bool:
    return any(toleration.tolerates(taint) for toleration in accepted)


def _chosen(spec: Object, node: Node) -> bool:
    """Whether the node selector and the required node affinity choose *node*."""
    labels = node.metadata.labels
    if not (spec.get("nodeSelector") or {}).items() <= labels.items():
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    if required is None:
        return True
    return any(_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term(term: Object, node: Node) -> bool:
    """Whether all of a term holds; one that says nothing chooses nothing."""
    name = {"metadata.name": node.metadata.name}
    rules = [(_requirement(rule), node.metadata.labels) for rule in _rules(term, "Expressions")]
    rules += [(_requirement(rule), name) for rule in _rules(term, "Fields")]
    return bool(rules) and all(rule.matches(values) for rule, values in rules)


def _rules(term: Object, what: str) -> Any:
    return term.get(f"match{what}") or ()


def _requirement(rule: Object) -> Requirement:
    return Requirement(rule["key"], rule["operator"], tuple(rule.get("values") or ()))


def _added(spec: Object) -> tuple[Toleration, ...]:
    return (*_STAYS, _ON_THE_HOST) if spec.get("hostNetwork") else _STAYS


def new_pod(ds: DaemonSet, node: str, digest: str) -> Object:
    """Return the Pod for *node*: only the scheduler binds it, but nowhere else."""
    pod = pod_from_template(ds, ds.spec.template)
    pod["metadata"]["labels"] = {**(pod["metadata"].get("labels") or {}), HASH: digest}
    spec = dict(pod["spec"])
    affinity = dict(spec.get("affinity") or {})
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        _REQUIRED: {"nodeSelectorTerms": [here]},
    }
    added = [{"key": t.key, "operator": t.operator, "effect": t.effect} for t in _added(spec)]
    given = [t for t in spec.get("tolerations") or () if t not in added]
    pod["spec"] = {**spec, "affinity": affinity, "tolerations": [*given, *added]}
    return pod


def target(pod: Pod) -> str:
    """Return the node that a DaemonSet's Pod is on, or is made for."""
    if pod.spec.node_name:
        return pod.spec.node_name
    required = (pod.spec.affinity.get("nodeAffinity") or {}).get(_REQUIRED) or {}
    for term in required.get("nodeSelectorTerms") or ():
        for rule in _rules(term, "Fields"):
            if rule["key"] == "metadata.name" and rule.get("values"):
                return str(rule["values"][0])
    return ""
