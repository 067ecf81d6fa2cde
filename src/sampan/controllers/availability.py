"""When a Pod counts as ready, and since when as available."""

from datetime import datetime, timedelta

from sampan.api.objects import Node, Pod, condition
from sampan.controllers.plan import Reader


def counts_as_ready(pod: Pod, objects: Reader) -> bool:
    """Whether *pod* is ready, as far as a node that is still heard of can tell."""
    return pod.ready and not lost(pod, objects)


def lost(pod: Pod, objects: Reader) -> bool:
    """Whether the node is not heard of, so that what the Pod's status says is out of date."""
    node = objects.get(Node, "", pod.spec.node_name)
    return node is not None and not node.ready


def ready_since(pod: Pod) -> datetime | None:
    ready = condition(pod.status.conditions, "Ready")
    return ready.last_transition_time if ready else None


def available_in(pod: Pod, min_ready: int, now: datetime) -> float:
    """Return the seconds until *pod*, which is ready, has been so long enough."""
    if not min_ready:
        return 0
    since = ready_since(pod) or now
    return max(0.0, (since + timedelta(seconds=min_ready) - now).total_seconds())
