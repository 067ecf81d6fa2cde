"""Conditions, and the smallest patch from one status to the next."""

from collections.abc import Iterable
from typing import Final

import msgspec

from sampan.api.objects import Condition, Object, View, condition

_TIMES: Final = {
    "last_transition_time": "lastTransitionTime",
    "last_update_time": "lastUpdateTime",
    "last_heartbeat_time": "lastHeartbeatTime",
    "last_probe_time": "lastProbeTime",
}


def raw_condition(given: Condition) -> Object:
    """Write a condition out whole: a View leaves defaults out, `status: Unknown` among them."""
    raw: Object = {"type": given.type, "status": given.status}
    if given.reason:
        raw["reason"] = given.reason
    if given.message:
        raw["message"] = given.message
    if given.observed_generation:
        raw["observedGeneration"] = given.observed_generation
    for attribute, name in _TIMES.items():
        if (at := getattr(given, attribute)) is not None:
            raw[name] = msgspec.to_builtins(at)
    return raw


def difference(current: View, wanted: View) -> Object:
    """Return the merge patch that makes *current* read as *wanted*; empty if it already does."""
    if current == wanted:
        return {}
    old, new = _raw(current), _raw(wanted)
    patch = {key: value for key, value in new.items() if old.get(key) != value}
    return patch | {key: None for key in old if key not in new}


def _raw(status: View) -> Object:
    raw: Object = msgspec.to_builtins(status)
    if conditions := getattr(status, "conditions", None):
        raw["conditions"] = [raw_condition(c) for c in conditions]
    return raw


def with_condition(conditions: Iterable[Condition], new: Condition) -> list[Condition]:
    """Add or replace a condition, as Kubernetes does: the same status and reason change nothing.

    The time of the last transition stays while the status does.
    """
    held = list(conditions)
    old = condition(held, new.type)
    if old and (old.status, old.reason) == (new.status, new.reason):
        return held
    if old and old.status == new.status:
        new = msgspec.structs.replace(new, last_transition_time=old.last_transition_time)
    return [*without_condition(held, new.type), new]


def without_condition(conditions: Iterable[Condition], type_: str) -> list[Condition]:
    return [c for c in conditions if c.type != type_]
