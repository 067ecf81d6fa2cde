"""Classes that a new object belongs to where it names none, and what a RuntimeClass adds.

Source: Kubernetes, plugin/pkg/admission: storage/storageclass, network/defaultingressclass and
runtimeclass.
"""

from collections.abc import Iterable
from typing import Final

from sampan.api.objects import Object

STORAGE_DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
STORAGE_BETA: Final = "volume.beta.kubernetes.io/storage-class"
INGRESS_DEFAULT: Final = "ingressclass.kubernetes.io/is-default-class"
INGRESS_ANNOTATION: Final = "kubernetes.io/ingress.class"


def default_class(classes: Iterable[Object], annotation: str) -> Object | None:
    """The class that is marked as the default: of several the newest, and then by name."""
    marked = [c for c in classes if _annotations(c).get(annotation) == "true"]
    newest = max((_born(c) for c in marked), default="")
    return min((c for c in marked if _born(c) == newest), key=_name, default=None)


def _born(obj: Object) -> str:
    return str(obj["metadata"].get("creationTimestamp") or "")


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _annotations(obj: Object) -> Object:
    return obj["metadata"].get("annotations") or {}


def needs_storage_class(claim: Object) -> bool:
    return "storageClassName" not in claim["spec"] and STORAGE_BETA not in _annotations(claim)


def needs_ingress_class(ingress: Object) -> bool:
    spec = ingress.get("spec") or {}
    return "ingressClassName" not in spec and INGRESS_ANNOTATION not in _annotations(ingress)


def ambiguous_ingress_classes(classes: Iterable[Object]) -> str:
    """Why no default can be chosen, or ""."""
    marked = [_name(c) for c in classes if _annotations(c).get(INGRESS_DEFAULT) == "true"]
    if len(marked) <= 1:
        return ""
    return f"{len(marked)} default IngressClasses were found, only 1 allowed"


def add_runtime_class(pod: Object, runtime: Object) -> str:
    """Give *pod* the overhead and the nodes of its RuntimeClass; return why that fails, or ""."""
    spec = pod["spec"]
    fixed = (runtime.get("overhead") or {}).get("podFixed")
    if "overhead" in spec and spec["overhead"] != (fixed or {}):
        return "Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    if fixed:
        spec["overhead"] = dict(fixed)
    scheduling = runtime.get("scheduling") or {}
    wanted, given = scheduling.get("nodeSelector") or {}, spec.get("nodeSelector") or {}
    for key in sorted(wanted.keys() & given.keys()):
        if wanted[key] != given[key]:
            return (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted[key]}; "
                f"pod.spec.nodeSelector[{key}] = {given[key]}"
            )
    if wanted:
        spec["nodeSelector"] = {**given, **wanted}
    tolerated = spec.get("tolerations") or []
    added = [t for t in scheduling.get("tolerations") or () if t not in tolerated]
    if added:
        spec["tolerations"] = [*tolerated, *added]
    return ""
