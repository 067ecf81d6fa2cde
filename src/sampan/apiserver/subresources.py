"""Subresources that are more than a part of their object: scale, binding, eviction.

Pure: each makes a new object of the old one, or says why not.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from sampan.api import kinds
from sampan.api.errors import BadRequest, Cause, TooManyRequests
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.api.selectors import from_label_selector
from sampan.api.time import timestamp
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.problems import bad_value, conflict, invalid, required

PARTS: Final = frozenset({"status", "approval", "ephemeralcontainers", "resize"})
"""Subresources that are read as the whole object."""
BINDING: Final = kinds.BY_GVK["v1", "Binding"]
EVICTION: Final = Kind("policy", "v1", "Eviction", "evictions")
SCALE: Final = Kind("autoscaling", "v1", "Scale", "scales")
BUDGETS: Final = kinds.BY_GVK["policy/v1", "PodDisruptionBudget"]
_SCALE_META: Final = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(kind: Kind, obj: Object) -> Object:
    """The `Scale` of an object of *kind*: of a workload, or of a custom kind that has one."""
    if isinstance(kind, CustomKind):
        return _custom_scale(kind, obj)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    told: Object = {"replicas": status.get("replicas", 0)}
    if selector := _selector_text(spec.get("selector") or {}):
        told["selector"] = selector
    return _scale(obj["metadata"], spec.get("replicas", 0), told)


def _custom_scale(kind: CustomKind, obj: Object) -> Object:
    paths = kind.version_.scale or {}
    wanted = _number(obj, paths["specReplicasPath"])
    told: Object = {"replicas": _number(obj, paths["statusReplicasPath"])}
    if paths.get("labelSelectorPath"):
        selector = _at(obj, paths["labelSelectorPath"])
        told["selector"] = selector if isinstance(selector, str) else ""
    return _scale(obj["metadata"], wanted, told)


def _at(obj: Any, path: str) -> Any:
    for part in path.removeprefix(".").split("."):
        obj = obj.get(part) if isinstance(obj, Mapping) else None
    return obj


def _number(obj: Object, path: str) -> int:
    found = _at(obj, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _scale(meta: Object, replicas: int, status: Object) -> Object:
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: meta[field] for field in _SCALE_META if field in meta},
        "spec": {"replicas": replicas},
        "status": status,
    }


def _selector_text(selector: Mapping[str, Any]) -> str:
    if not {"matchLabels", "matchExpressions"} & selector.keys():
        return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    terms = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(sorted(term.get("values") or ()))
        terms.append({
            "In": f"{term['key']} in ({values})", "NotIn": f"{term['key']} notin ({values})",
            "Exists": term["key"], "DoesNotExist": f"!{term['key']}",
        }[term["operator"]])  # fmt: skip
    return ",".join(terms)


def scaled(kind: Kind, old: Object, scale: Object) -> Object:
    """*old*, of *kind*, with as many replicas as *scale* says."""
    name = old["metadata"]["name"]
    given = scale.get("metadata") or {}
    if given.get("name", name) != name:
        raise BadRequest(
            f"the name of the object ({given['name']}) does not match the name on the URL ({name})"
        )
    wanted = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise BadRequest(f"Scale.spec.replicas is {wanted!r}, which is not a number")
    if wanted < 0:
        why = "must be greater than or equal to 0"
        raise invalid(SCALE, name, [bad_value("spec.replicas", wanted, why)])
    if isinstance(kind, CustomKind) and kind.version_.scale:
        replaced: Object = _with_at(old, kind.version_.scale["specReplicasPath"], wanted)
        return replaced
    return {**old, "spec": {**old["spec"], "replicas": wanted}}


def _with_at(obj: Any, path: str, value: Any) -> Any:
    """A copy of *obj* with *value* at *path*."""
    name, _, rest = path.removeprefix(".").partition(".")
    held = obj if isinstance(obj, Mapping) else {}
    return {**held, name: _with_at(held.get(name), rest, value) if rest else value}


def bound(pod: Object, binding: Object, now: datetime) -> Object:
    """*pod* assigned to the node that *binding* names; raise Conflict if it cannot be."""
    meta, spec = pod["metadata"], pod["spec"]
    name, target = meta["name"], binding.get("target") or {}
    node = target.get("name")
    if not node:
        raise invalid(kinds.PODS, name, [required("target.name")])
    if target.get("kind", "Node") not in {"", "Node"}:
        why = 'must be empty, or "Node"'
        raise invalid(kinds.PODS, name, [bad_value("target.kind", target["kind"], why)])
    given = binding.get("metadata") or {}
    if given.get("uid") not in (None, "", meta["uid"]):
        why = (
            f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: "
            f"{meta['uid']}"
        )
        raise conflict(kinds.PODS, name, why, "binding")
    if meta.get("deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
        raise conflict(kinds.PODS, name, why, "binding")
    if spec.get("nodeName"):
        why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
        raise conflict(kinds.PODS, name, why, "binding")
    if spec.get("schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
        raise conflict(kinds.PODS, name, why, "binding")
    status = dict(pod.get("status") or {})
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None,
                 "lastTransitionTime": timestamp(now)}  # fmt: skip
    others = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    status["conditions"] = [*others, scheduled]
    annotations = {**(meta.get("annotations") or {}), **(given.get("annotations") or {})}
    if annotations:
        meta = {**meta, "annotations": annotations}
    return {**pod, "metadata": meta, "spec": {**spec, "nodeName": node}, "status": status}


def budget_for(pod: Object, budgets: Iterable[Object]) -> Object | None:
    """The one budget that *pod* counts against, unless its eviction disrupts nothing."""
    status = pod.get("status") or {}
    if status.get("phase") in {"Succeeded", "Failed", "Pending"}:
        return None
    if pod["metadata"].get("deletionTimestamp"):
        return None
    labels = pod["metadata"].get("labels") or {}
    mine = []
    for budget in budgets:
        selector = from_label_selector((budget.get("spec") or {}).get("selector"))
        if selector is not None and selector.matches(labels):
            mine.append(budget)
    if len(mine) > 1:
        raise BadRequest(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource "
            "does not support."
        )
    if not mine or (_unready(pod) and _lets_unready_go(mine[0])):
        return None
    return mine[0]


def _unready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return not any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _lets_unready_go(budget: Object) -> bool:
    spec, status = budget.get("spec") or {}, budget.get("status") or {}
    if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    return bool(healthy >= wanted > 0)


def disrupted(budget: Object, pod: str, now: datetime) -> Object:
    """*budget* with one disruption less to allow; raise TooManyRequests if it has none left."""
    status = dict(budget.get("status") or {})
    name = budget["metadata"]["name"]
    seen = status.get("observedGeneration", 0)
    if seen < budget["metadata"].get("generation", 0):
        raise _refusal(f"The disruption budget {name} is still being processed by the server.", 10)
    if status.get("disruptionsAllowed", 0) <= 0:
        wanted, healthy = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        raise _refusal(
            f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently",
            None,
        )
    status["disruptionsAllowed"] -= 1
    status["disruptedPods"] = {**(status.get("disruptedPods") or {}), pod: timestamp(now)}
    return {**budget, "status": status}


def _refusal(why: str, retry_after: int | None) -> TooManyRequests:
    return TooManyRequests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        causes=(Cause("DisruptionBudget", why),),
        retry_after=retry_after,
    )
