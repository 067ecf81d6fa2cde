"""Rules of Pods, and of the Pod templates in workloads. Source: Kubernetes, core/validation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.apiserver.problems import bad_value, duplicate, not_allowed, required, unsupported
from sampan.apiserver.validation import containers, names

_RESTART: Final = ("Always", "OnFailure", "Never")
_DNS: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MUTABLE: Final = frozenset({
    "activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates",
})  # fmt: skip
_FIXED: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative)"
)


def validate_pod(pod: Object) -> Iterator[Cause]:
    yield from validate_pod_spec(pod.get("spec") or {}, "spec")


def validate_template(template: Any, field: str) -> Iterator[Cause]:
    """Rules of a Pod template; its labels' form is the caller's to check."""
    yield from validate_pod_spec((template or {}).get("spec") or {}, f"{field}.spec")


def validate_pod_spec(spec: Object, field: str) -> Iterator[Cause]:
    volumes = spec.get("volumes") or ()
    yield from _validate_volumes(volumes, f"{field}.volumes")
    mountable = {volume.get("name") for volume in volumes}
    yield from containers.validate_containers(spec, field, mountable)
    if (policy := spec.get("restartPolicy", "Always")) not in _RESTART:
        yield unsupported(f"{field}.restartPolicy", policy, _RESTART)
    if (policy := spec.get("dnsPolicy", "ClusterFirst")) not in _DNS:
        yield unsupported(f"{field}.dnsPolicy", policy, _DNS)
    yield from _validate_times(spec, field)
    for part in ("serviceAccountName", "nodeName", "runtimeClassName"):
        if (name := spec.get(part)) and (wrong := names.subdomain(name)):
            yield bad_value(f"{field}.{part}", name, wrong)
    for part in ("hostname", "subdomain"):
        if (name := spec.get(part)) and (wrong := names.label(name)):
            yield bad_value(f"{field}.{part}", name, wrong)
    yield from _validate_node_selector(spec.get("nodeSelector") or {}, f"{field}.nodeSelector")
    yield from _validate_tolerations(spec.get("tolerations") or (), f"{field}.tolerations")


def _validate_times(spec: Object, field: str) -> Iterator[Cause]:
    grace = spec.get("terminationGracePeriodSeconds", 0)
    if grace < 0:
        yield bad_value(f"{field}.terminationGracePeriodSeconds", grace, _NOT_NEGATIVE)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and deadline < 1:
        why = "must be between 1 and 2147483647, inclusive"
        yield bad_value(f"{field}.activeDeadlineSeconds", deadline, why)


def _validate_node_selector(selector: Object, field: str) -> Iterator[Cause]:
    for key, value in selector.items():
        if wrong := names.qualified(key) or names.label_value(value):
            yield bad_value(field, f"{key}={value}", wrong)


_NOT_NEGATIVE: Final = "must be greater than or equal to 0"


def _validate_volumes(volumes: Sequence[Object], field: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"{field}[{index}]"
        name = volume.get("name", "")
        if not name:
            yield required(f"{here}.name")
        elif wrong := names.label(name):
            yield bad_value(f"{here}.name", name, wrong)
        if name in seen:
            yield duplicate(f"{here}.name", name)
        seen.add(name)
        sources = sorted(volume.keys() - {"name"})
        for extra in sources[1:]:
            yield not_allowed(f"{here}.{extra}", "may not specify more than 1 volume type")
        yield from _validate_source(volume, here)


def _validate_source(volume: Object, field: str) -> Iterator[Cause]:
    wanted = {"secret": "secretName", "configMap": "name", "hostPath": "path",
              "persistentVolumeClaim": "claimName"}  # fmt: skip
    for source, part in wanted.items():
        if source in volume and not (volume[source] or {}).get(part):
            yield required(f"{field}.{source}.{part}")
    limit = (volume.get("emptyDir") or {}).get("sizeLimit")
    if limit is not None:
        yield from containers.validate_quantity(limit, f"{field}.emptyDir.sizeLimit")


def _validate_tolerations(tolerations: Iterable[Object], field: str) -> Iterator[Cause]:
    for index, one in enumerate(tolerations):
        here = f"{field}[{index}]"
        if (key := one.get("key")) and (wrong := names.qualified(key)):
            yield bad_value(f"{here}.key", key, wrong)
        operator = one.get("operator") or "Equal"
        if operator not in {"Equal", "Exists"}:
            yield unsupported(f"{here}.operator", operator, ("Equal", "Exists"))
        elif operator == "Equal" and not key:
            why = (
                "operator must be Exists when `key` is empty, which means "
                '"match all values and all keys"'
            )
            yield bad_value(f"{here}.operator", operator, why)
        elif operator == "Exists" and one.get("value"):
            why = "value must be empty when `operator` is 'Exists'"
            yield bad_value(f"{here}.operator", one["value"], why)
        if (effect := one.get("effect")) and effect not in _EFFECTS:
            yield unsupported(f"{here}.effect", effect, _EFFECTS)
        if one.get("tolerationSeconds") is not None and effect != "NoExecute":
            why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            yield bad_value(f"{here}.effect", effect or "", why)


def validate_pod_update(old: Object, new: Object) -> Iterator[Cause]:
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if _comparable(before) != _comparable(after):
        yield not_allowed("spec", _FIXED)
        return
    kept = after.get("tolerations") or []
    if any(one not in kept for one in before.get("tolerations") or ()):
        why = "existing toleration can not be modified except its tolerationSeconds"
        yield not_allowed("spec.tolerations", why)
    gates = {one.get("name") for one in before.get("schedulingGates") or ()}
    for index, gate in enumerate(after.get("schedulingGates") or ()):
        if gate.get("name") not in gates:
            why = "only deletion is allowed, but found new scheduling gate"
            yield not_allowed(f"spec.schedulingGates[{index}]", f"{why} '{gate.get('name')}'")


def _comparable(spec: Object) -> Object:
    """What an update must leave as it is."""
    fixed = {key: value for key, value in spec.items() if key not in _MUTABLE}
    for field in ("containers", "initContainers"):
        if field in fixed:
            fixed[field] = [{**container, "image": ""} for container in fixed[field]]
    return fixed
