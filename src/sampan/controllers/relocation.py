"""Replicas that are to run elsewhere: the replacement starts first, then the old one stops.

Whoever wants a replica moved (an eviction, the rebalancer) marks its Pod. The owner counts it as
leaving: it makes another in its place, and lets the marked one go once enough of the others serve.
At no time do fewer serve than are asked for, so a move is no disruption that a budget counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from sampan.api.marks import EVICTING, EVICTING_GRACE
from sampan.api.objects import Object, Pod
from sampan.api.time import parse_time, timestamp
from sampan.controllers.availability import available_in, counts_as_ready
from sampan.controllers.plan import Action, CheckAgain, Delete, RecordEvent, World

GIVEN_UP: Final = timedelta(minutes=10)
"""A mark that is so old says nothing any more: the replica stays."""


def mark(now: datetime) -> Object:
    """Return the patch that asks for a Pod's replacement."""
    return {"metadata": {"annotations": {EVICTING: timestamp(now)}}}


def leaving(pods: Iterable[Pod], now: datetime) -> list[Pod]:
    return [pod for pod in pods if _left(pod, now) > timedelta()]


def _left(pod: Pod, now: datetime) -> timedelta:
    """How much longer the mark of *pod* holds; nothing if there is none."""
    try:
        return parse_time(pod.metadata.annotations[EVICTING]) + GIVEN_UP - now
    except (KeyError, ValueError):
        return timedelta()


def released(
    going: Sequence[Pod], staying: Sequence[Pod], wanted: int, min_ready: int, world: World
) -> Iterator[Action]:
    """Let those *going* stop that are not needed for *wanted* to serve."""
    if not going:
        return
    serving = [pod for pod in going if counts_as_ready(pod, world.objects)]
    enough = len(serving) - wanted + sum(_available(pod, min_ready, world) for pod in staying)
    idle = [pod for pod in going if pod not in serving]
    stopped = idle + serving[: max(enough, 0)]
    for pod in stopped:
        done = RecordEvent(pod, "Moved", "Stopped, as was asked for: enough other replicas serve")
        yield Delete(pod, grace_seconds=_grace(pod), done=done)
    if len(stopped) < len(going):
        first = min(_left(pod, world.now) for pod in going)
        yield CheckAgain(first.total_seconds() + 1)


def _available(pod: Pod, min_ready: int, world: World) -> bool:
    return counts_as_ready(pod, world.objects) and available_in(pod, min_ready, world.now) == 0


def _grace(pod: Pod) -> int | None:
    text = pod.metadata.annotations.get(EVICTING_GRACE, "")
    return int(text) if text.isdecimal() else None
