"""What an object counts for in a ResourceQuota, and which quotas it counts in. Pure.

Source: Kubernetes, "Resource Quotas", and pkg/quota/v1/evaluator/core.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from sampan.api import kinds, quantities
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.admission.amounts import Amounts, amounts, of_container, of_pod

QUOTAS: Final = kinds.BY_GVK["v1", "ResourceQuota"]
_ONE: Final = Decimal(1)
_COUNTED_BY_NAME: Final = frozenset({
    "configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets",
    "services",
})  # fmt: skip
_COMPUTE: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_MUST_BE_SET: Final = frozenset({
    "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory",
})  # fmt: skip
_FINISHED: Final = frozenset({"Succeeded", "Failed"})
_OF_STORAGE_CLASS: Final = ".storageclass.storage.k8s.io/"
_CLAIM_ANNOTATION: Final = "volume.beta.kubernetes.io/storage-class"


class Traits(Struct, frozen=True):
    """What scopes look at; *pod* is false for what no scope selects."""

    pod: bool = False
    terminating: bool = False
    best_effort: bool = False
    priority_class: str = ""
    across_namespaces: bool = False
    attributes_class: str = ""


_PLAIN: Final = Traits()


class Usage(Struct, frozen=True):
    amounts: Mapping[str, Decimal]
    traits: Traits = _PLAIN


def usage(kind: Kind, obj: Object) -> Usage:
    counted: Amounts = {f"count/{kind.resource}": _ONE}
    if kind == kinds.PODS:
        return _of_pod(obj, counted)
    if kind.resource in _COUNTED_BY_NAME:
        counted[kind.resource] = _ONE
    if kind == kinds.SERVICES:
        counted |= _of_service(obj)
    elif kind == kinds.PERSISTENT_VOLUME_CLAIMS:
        counted |= _of_claim(obj)
        name = (obj.get("spec") or {}).get("volumeAttributesClassName") or ""
        return Usage(counted, Traits(attributes_class=name))
    return Usage(counted)


def _of_pod(pod: Object, counted: Amounts) -> Usage:
    spec = pod["spec"]
    if (pod.get("status") or {}).get("phase") not in _FINISHED:
        counted["pods"] = _ONE
        for what in ("requests", "limits"):
            for name, amount in of_pod(spec, what).items():
                counted[f"{what}.{name}"] = amount
                if what == "requests" and (name in _COMPUTE or name.startswith("hugepages-")):
                    counted[name] = amount
    affinity = spec.get("affinity") or {}
    traits = Traits(
        pod=True,
        terminating=spec.get("activeDeadlineSeconds") is not None,
        best_effort=(pod.get("status") or {}).get("qosClass") == "BestEffort",
        priority_class=spec.get("priorityClassName") or "",
        across_namespaces=_names_namespaces(affinity),
    )
    return Usage(counted, traits)


def _names_namespaces(affinity: Any) -> bool:
    """Whether a term of a Pod's (anti-)affinity looks beyond the Pod's own namespace."""
    if isinstance(affinity, list):
        return any(map(_names_namespaces, affinity))
    if not isinstance(affinity, dict):
        return False
    if "topologyKey" in affinity:
        return bool(affinity.get("namespaces")) or "namespaceSelector" in affinity
    return any(map(_names_namespaces, affinity.values()))


def _of_service(service: Object) -> Amounts:
    spec = service.get("spec") or {}
    type_, ports = spec.get("type"), Decimal(len(spec.get("ports") or ()))
    if type_ == "NodePort":
        return {"services.nodeports": ports}
    if type_ != "LoadBalancer":
        return {}
    ported = ports if spec.get("allocateLoadBalancerNodePorts", True) else Decimal(0)
    return {"services.loadbalancers": _ONE, "services.nodeports": ported}


def _of_claim(claim: Object) -> Amounts:
    spec = claim.get("spec") or {}
    notes = claim["metadata"].get("annotations") or {}
    storage = amounts((spec.get("resources") or {}).get("requests")).get("storage", Decimal(0))
    counted = {"requests.storage": storage}
    if class_ := spec.get("storageClassName") or notes.get(_CLAIM_ANNOTATION):
        counted[f"{class_}{_OF_STORAGE_CLASS}requests.storage"] = storage
        counted[f"{class_}{_OF_STORAGE_CLASS}persistentvolumeclaims"] = _ONE
    return counted


def hard(quota: Object) -> Mapping[str, quantities.Quantity]:
    return (quota.get("spec") or {}).get("hard") or {}


def selects(quota: Object, traits: Traits) -> bool:
    """Whether what has *traits* is in all scopes of *quota*."""
    spec = quota.get("spec") or {}
    terms = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    terms += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_in_scope(term, traits) for term in terms)


_POD_SCOPES: Final[Mapping[str, Callable[[Traits], bool]]] = {
    "Terminating": lambda traits: traits.terminating,
    "NotTerminating": lambda traits: not traits.terminating,
    "BestEffort": lambda traits: traits.best_effort,
    "NotBestEffort": lambda traits: not traits.best_effort,
    "CrossNamespacePodAffinity": lambda traits: traits.across_namespaces,
}


def _in_scope(term: Object, traits: Traits) -> bool:
    name = term["scopeName"]
    if name == "VolumeAttributesClass":
        return _valued(term, traits.attributes_class)
    if name == "PriorityClass":
        return traits.pod and _valued(term, traits.priority_class)
    holds = _POD_SCOPES.get(name)
    return traits.pod and holds is not None and holds(traits)


def _valued(term: Object, value: str) -> bool:
    values = term.get("values") or ()
    match term.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return bool(value)
        case "DoesNotExist":
            return not value
    return False


def _resource(name: str) -> str:
    if name.startswith("count/"):
        return name.removeprefix("count/")
    if name.startswith("services."):
        return "services"
    if name == "requests.storage" or _OF_STORAGE_CLASS in name:
        return "persistentvolumeclaims"
    return name if name in _COUNTED_BY_NAME else "pods"


def resources(quota: Object) -> frozenset[str]:
    """The resources whose objects count for *quota*."""
    return frozenset(map(_resource, hard(quota)))


def unspecified(quota: Object, pod: Object) -> str:
    """What the containers of *pod* must say so that *quota* can count it, or ""."""
    spec = pod["spec"]
    stated = amounts((spec.get("resources") or {}).get("requests"))
    capped = amounts((spec.get("resources") or {}).get("limits"))
    missing: dict[str, set[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        requests = {**stated, **of_container(container, "requests")}
        limits = {**capped, **of_container(container, "limits")}
        said = {*requests, *(f"requests.{r}" for r in requests), *(f"limits.{r}" for r in limits)}
        for name in (hard(quota).keys() & _MUST_BE_SET) - said:
            missing.setdefault(name, set()).add(container.get("name", ""))
    told = (f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))
    return f"must specify {'; '.join(told)}" if missing else ""


def exceeded(quota: Object, used: Mapping[str, Decimal], asked: Mapping[str, Decimal]) -> str:
    """How *quota*, of which *used* is taken, is exceeded by *asked* more, or ""."""
    limits = amounts(hard(quota))
    over = sorted(
        name
        for name, amount in asked.items()
        if name in limits and amount > 0 and used.get(name, Decimal(0)) + amount > limits[name]
    )
    if not over:
        return ""
    told = [
        f"{word}: {','.join(f'{name}={_written(quota, name, of[name])}' for name in over)}"
        for word, of in (
            ("requested", asked),
            ("used", {name: used.get(name, Decimal(0)) for name in over}),
            ("limited", limits),
        )
    ]
    return f"exceeded quota: {quota['metadata']['name']}, {', '.join(told)}"


def _written(quota: Object, name: str, amount: Decimal) -> str:
    like = hard(quota)[name]
    memory = "memory" in name or "storage" in name or "hugepages" in name
    return quantities.written(amount, binary=memory and quantities.is_binary(like))


def status(quota: Object, used: Mapping[str, Decimal]) -> Object:
    """The status of *quota* when *used* is taken."""
    names = hard(quota)
    taken = {name: _written(quota, name, used.get(name, Decimal(0))) for name in names}
    return {"hard": dict(names), "used": taken}


def total(parts: Iterable[tuple[Traits, Mapping[str, Decimal]]], quota: Object) -> Amounts:
    """What of *quota* is taken by *parts*."""
    names = hard(quota)
    sums: Amounts = {}
    for traits, counted in parts:
        if selects(quota, traits):
            for name in counted.keys() & names.keys():
                sums[name] = sums.get(name, Decimal(0)) + counted[name]
    return sums
