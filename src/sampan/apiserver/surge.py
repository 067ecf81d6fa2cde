"""Evictions that start the replacement first: whom they can spare an outage, and what they say.

Pure. An eviction of a replica that serves marks it; its ReplicaSet makes one more, and stops the
marked one when enough others serve. Whoever asked is told to ask again, as for a budget that has
nothing left: `kubectl drain` and everything else that evicts does so by itself.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sampan.api.errors import Cause, TooManyRequests
from sampan.api.marks import EVICT, EVICTING, EVICTING_GRACE
from sampan.api.objects import Object
from sampan.api.time import parse_time, timestamp

PATIENCE: Final = timedelta(minutes=5)
"""How long a replacement may take to serve before the eviction goes on without it."""
NOWHERE: Final = timedelta(minutes=1)
"""The same for one that no node has room for."""
ASK_AGAIN: Final = 1
"""Seconds."""


def surges(pod: Object, replicas: Object | None, deployment: Object | None) -> bool:
    """Whether *pod* of these owners can have its replacement beside it, and is worth it."""
    if replicas is None or replicas["metadata"].get("deletionTimestamp"):
        return False
    owner = controller(pod)
    if owner.get("uid") != replicas["metadata"]["uid"] or not is_serving(pod):
        return False
    if any(_annotations(obj).get(EVICT) == "at-once" for obj in (pod, replicas)):
        return False
    strategy = ((deployment or {}).get("spec") or {}).get("strategy") or {}
    alone = strategy.get("type") == "Recreate"
    claims = any("persistentVolumeClaim" in v for v in pod["spec"].get("volumes") or ())
    return not alone and not claims and (replicas["spec"].get("replicas") or 0) > 0


def is_serving(pod: Object) -> bool:
    status = pod.get("status") or {}
    going = pod["metadata"].get("deletionTimestamp") or status.get("phase") != "Running"
    return not going and _condition(pod, "Ready").get("status") == "True"


def overdue(pod: Object, siblings: Iterable[Object], now: datetime) -> bool:
    """Whether *pod* was marked so long ago that its replacement is not worth waiting for."""
    at = _annotations(pod).get(EVICTING)
    if at is None:
        return False
    newest = replacement(pod, siblings)
    homeless = newest is not None and not newest["spec"].get("nodeName")
    return now - parse_time(at) >= (NOWHERE if homeless else PATIENCE)


def marked(pod: Object, grace: int | None, now: datetime) -> Object:
    """*pod* with the mark that makes its ReplicaSet replace it; the first mark holds."""
    notes = dict(_annotations(pod))
    if EVICTING not in notes:
        notes[EVICTING] = timestamp(now)
        if grace is not None:
            notes[EVICTING_GRACE] = str(grace)
    return {**pod, "metadata": {**pod["metadata"], "annotations": notes}}


def replacement(pod: Object, siblings: Iterable[Object]) -> Object | None:
    """The youngest replica that is not to be evicted and does not serve yet."""
    coming = [s for s in siblings if _is_coming(pod, s)]
    return max(coming, key=lambda s: s["metadata"].get("creationTimestamp") or "", default=None)


def _is_coming(pod: Object, sibling: Object) -> bool:
    meta = sibling["metadata"]
    same = controller(sibling).get("uid") == controller(pod).get("uid")
    leaves = meta.get("deletionTimestamp") or EVICTING in _annotations(sibling)
    return same and not leaves and not is_serving(sibling)


def not_yet(pod: Object, siblings: Iterable[Object]) -> TooManyRequests:
    """The answer while the replacement starts: who it is, and what it waits for."""
    name = pod["metadata"]["name"]
    coming = replacement(pod, siblings)
    why = f"{coming['metadata']['name']} {_state(coming)}" if coming else "it is being made"
    return TooManyRequests(
        f"Cannot evict pod {name} yet: its replacement starts first ({why}).",
        causes=(Cause("ReplacementStarting", why),),
        retry_after=ASK_AGAIN,
    )


def after_all(refusal: TooManyRequests, pod: Object, siblings: Iterable[Object]) -> TooManyRequests:
    """A budget's *refusal*, with what has become of the replacement that was waited for."""
    coming = replacement(pod, siblings)
    if coming is None:
        return refusal
    why = f"its replacement {coming['metadata']['name']} {_state(coming)}"
    return TooManyRequests(
        f"{refusal.message} It cannot be replaced either: {why}.",
        causes=(*refusal.causes, Cause("ReplacementStarting", why)),
        retry_after=refusal.retry_after,
    )


def _state(pod: Object) -> str:
    """What keeps a Pod from serving, in a few words."""
    scheduled = _condition(pod, "PodScheduled")
    if not pod["spec"].get("nodeName"):
        return f"has no node: {scheduled.get('message') or 'not looked at yet'}"
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason"):
            what = ": ".join(filter(None, [waiting["reason"], waiting.get("message")]))
            return f"waits on {pod['spec']['nodeName']}: {what}"
    return f"starts on {pod['spec']['nodeName']}"


def _condition(pod: Object, type_: str) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == type_), {})


def _annotations(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def controller(obj: Object) -> Mapping[str, Any]:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((o for o in owners if o.get("controller")), {})
