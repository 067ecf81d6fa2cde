"""Rules of the smaller kinds. Source: Kubernetes, core, rbac and scheduling validation."""

from collections.abc import Iterator
from typing import Final

from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.api.quantities import whole
from sampan.apiserver.problems import bad_value, not_allowed, required, too_long, unsupported
from sampan.apiserver.validation import names

_MEBIBYTE: Final = 1024 * 1024
_IMMUTABLE: Final = "field is immutable"
_FROZEN: Final = "field is immutable when `immutable` is set"
_KEYS: Final = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_ACCESS: Final = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")


def validate_config_map(obj: Object) -> Iterator[Cause]:
    text, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for field, data in (("data", text), ("binaryData", binary)):
        yield from _validate_keys(data, field)
    for key in text.keys() & binary.keys():
        yield bad_value(f"data[{key}]", key, f"duplicate of key present in binaryData: {key}")
    if _size(text) + _size(binary) > _MEBIBYTE:
        yield too_long("", _MEBIBYTE)


def _validate_keys(data: Object, field: str) -> Iterator[Cause]:
    for key in data:
        if wrong := names.config_key(key):
            yield bad_value(f"{field}[{key}]", key, wrong)


def _size(data: Object) -> int:
    return sum(len(value.encode()) for value in data.values())


def validate_secret(obj: Object) -> Iterator[Cause]:
    data = obj.get("data") or {}
    yield from _validate_keys(data, "data")
    if _size(data) * 3 // 4 > _MEBIBYTE:
        yield too_long("data", _MEBIBYTE)
    for key in _KEYS.get(obj.get("type", ""), ()):
        if key not in data:
            yield required(f"data[{key}]")


def validate_secret_update(old: Object, new: Object) -> Iterator[Cause]:
    if old.get("type") != new.get("type"):
        yield bad_value("type", new.get("type", ""), _IMMUTABLE)
    yield from validate_immutable_data(old, new)


def validate_immutable_data(old: Object, new: Object) -> Iterator[Cause]:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield not_allowed("immutable", _FROZEN)
    for field in ("data", "binaryData"):
        if (old.get(field) or {}) != (new.get(field) or {}):
            yield not_allowed(field, _FROZEN)


def validate_node(obj: Object) -> Iterator[Cause]:
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate((obj.get("spec") or {}).get("taints") or ()):
        here = f"spec.taints[{index}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        if wrong := names.qualified(key):
            yield bad_value(f"{here}.key", key, wrong)
        if wrong := names.label_value(taint.get("value", "")):
            yield bad_value(f"{here}.value", taint["value"], wrong)
        if effect not in _EFFECTS:
            yield unsupported(f"{here}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            yield Cause("FieldValueDuplicate", f'Duplicate value: "{key}:{effect}"', here)
        seen.add((key, effect))


def validate_node_update(old: Object, new: Object) -> Iterator[Cause]:
    before = (old.get("spec") or {}).get("podCIDR")
    after = (new.get("spec") or {}).get("podCIDR")
    if before and before != after:
        why = 'node updates may not change podCIDR except from "" to valid'
        yield not_allowed("spec.podCIDRs", why)


def validate_lease(obj: Object) -> Iterator[Cause]:
    seconds = (obj.get("spec") or {}).get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        yield bad_value("spec.leaseDurationSeconds", seconds, "must be greater than 0")


def validate_claim(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    modes = spec.get("accessModes") or ()
    if not modes:
        yield required("spec.accessModes", "at least 1 access mode is required")
    for mode in modes:
        if mode not in _ACCESS:
            yield unsupported("spec.accessModes", mode, _ACCESS)
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        yield required("spec.resources[storage]")


def validate_claim_update(old: Object, new: Object) -> Iterator[Cause]:
    changeable = {"resources", "volumeAttributesClassName"}
    before, after = (
        {key: value for key, value in obj["spec"].items() if key not in changeable}
        for obj in (old, new)
    )
    if before.get("volumeName") or before == after:
        changed = before != after
    else:
        changed = {**before, "volumeName": 0} != {**after, "volumeName": 0}
    if changed:
        why = (
            "spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims"
        )
        yield not_allowed("spec", why)
    elif before.get("volumeName") and _storage(new) < _storage(old):
        yield not_allowed(
            "spec.resources.requests.storage", "field can not be less than previous value"
        )


def _storage(claim: Object) -> int:
    requests = (claim["spec"].get("resources") or {}).get("requests") or {}
    return whole(requests.get("storage", 0))


def validate_binding_update(old: Object, new: Object) -> Iterator[Cause]:
    if old.get("roleRef") != new.get("roleRef"):
        yield bad_value("roleRef", "", "cannot change roleRef")


def validate_priority_class_update(old: Object, new: Object) -> Iterator[Cause]:
    for field in ("value", "preemptionPolicy"):
        if old.get(field) != new.get(field):
            yield not_allowed(field, "may not be changed in an update.")
