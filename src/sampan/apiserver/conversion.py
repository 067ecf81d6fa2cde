"""Kinds that are another version of a stored kind: Events of both groups, autoscaling v1.

Source: Kubernetes, pkg/apis/events/v1 and pkg/apis/autoscaling/v1, conversion.go.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from sampan.api import kinds
from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object
from sampan.api.time import parse_time, timestamp

Turn = Callable[[Object], Object]

_TO_EVENTS_V1: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_TO_CORE: Final = {new: old for old, new in _TO_EVENTS_V1.items()}


class Conversion(Struct, frozen=True):
    """*stored* is the kind that the store keeps; the functions turn whole objects, not in place."""

    stored: Kind
    to_stored: Turn
    from_stored: Turn


def _renamed(obj: Object, names: Mapping[str, str], api_version: str) -> Object:
    turned = {names.get(key, key): value for key, value in obj.items()}
    return {**turned, "apiVersion": api_version}


def _event_to_core(obj: Object) -> Object:
    event = _renamed(obj, _TO_CORE, "v1")
    if at := event.get("eventTime"):
        stamp = timestamp(parse_time(at))
        event.setdefault("firstTimestamp", stamp)
        event.setdefault("lastTimestamp", stamp)
    return event


def _event_from_core(obj: Object) -> Object:
    return _renamed(obj, _TO_EVENTS_V1, "events.k8s.io/v1")


def _autoscaler_to_v2(obj: Object) -> Object:
    spec = dict(obj.get("spec") or {})
    share = spec.pop("targetCPUUtilizationPercentage", None)
    if share is not None:
        spec["metrics"] = [
            _cpu_metric("target", {"type": "Utilization", "averageUtilization": share})
        ]
    status = dict(obj.get("status") or {})
    now = status.pop("currentCPUUtilizationPercentage", None)
    if now is not None:
        status["currentMetrics"] = [_cpu_metric("current", {"averageUtilization": now})]
    return {**obj, "apiVersion": "autoscaling/v2", "spec": spec, "status": status}


def _cpu_metric(part: str, amount: Object) -> Object:
    return {"type": "Resource", "resource": {"name": "cpu", part: amount}}


def _autoscaler_from_v2(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    wanted = _cpu_share(spec.pop("metrics", None) or (), "target")
    found = _cpu_share(status.pop("currentMetrics", None) or (), "current")
    spec.pop("behavior", None)
    status.pop("conditions", None)
    if wanted is not None:
        spec["targetCPUUtilizationPercentage"] = wanted
    if found is not None:
        status["currentCPUUtilizationPercentage"] = found
    return {**obj, "apiVersion": "autoscaling/v1", "spec": spec, "status": status}


def _cpu_share(metrics: Any, part: str) -> int | None:
    for metric in metrics:
        resource = metric.get("resource") or {}
        if metric.get("type") == "Resource" and resource.get("name") == "cpu":
            share: int | None = (resource.get(part) or {}).get("averageUtilization")
            return share
    return None


_CONVERSIONS: Final[Mapping[Kind, Conversion]] = {
    BY_GVK["events.k8s.io/v1", "Event"]: Conversion(kinds.EVENTS, _event_to_core, _event_from_core),
    BY_GVK["autoscaling/v1", "HorizontalPodAutoscaler"]: Conversion(
        BY_GVK["autoscaling/v2", "HorizontalPodAutoscaler"], _autoscaler_to_v2, _autoscaler_from_v2
    ),
}


def conversion(kind: Kind) -> Conversion | None:
    """How *kind* is kept; None if it is kept as it is."""
    return _CONVERSIONS.get(kind)


def to_stored(kind: Kind, obj: Object) -> Object:
    """*obj* of *kind* as the store keeps it."""
    found = conversion(kind)
    return found.to_stored(obj) if found else obj


def from_stored(kind: Kind, obj: Object) -> Object:
    """What the store keeps, as an object of *kind*."""
    found = conversion(kind)
    return found.from_stored(obj) if found else obj
