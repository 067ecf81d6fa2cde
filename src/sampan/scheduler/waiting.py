"""Pods that have no node: the ready ones in order, the refused ones until something can help.

Refused Pods that ask the same are parked together. When something happens that can cure what
refused them, one of them is tried; only if that one finds a place does the next one follow. So
thousands of hopeless Pods cost as much as one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

from sampan.scheduler.demand import Demand
from sampan.scheduler.explain import Explanation
from sampan.scheduler.rules import Cure
from sampan.scheduler.views import Pod


@dataclass(slots=True, eq=False)
class Waiter:
    pod: Pod
    demand: Demand
    arrival: int
    queued: bool = False
    failures: int = 0
    """How often its binding failed."""
    told: Explanation | None = None
    """What was last said about it, and when."""
    told_at: float = -inf


@dataclass(slots=True, eq=False)
class Lot:
    """Refused Pods with the same demand, and what refused them in which state of the table."""

    explanation: Explanation
    version: tuple[int, int]
    waiters: dict[str, Waiter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WaitingStatistics:
    ready: int
    parked: int
    lots: int
    aside: int
    """Pods for which room is being made, or looked for."""


class Waiting:
    """Highest priority first, and of these the one that came first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        self._waiters: dict[str, Waiter] = {}
        self._lots: dict[bytes, Lot] = {}
        self._aside: set[str] = set()
        self._arrivals = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def __contains__(self, uid: str) -> bool:
        return uid in self._waiters

    @property
    def lots(self) -> int:
        """How many different demands have been refused."""
        return len(self._lots)

    def statistics(self) -> WaitingStatistics:
        parked = sum(len(lot.waiters) for lot in self._lots.values())
        ready = len(self._waiters) - parked - len(self._aside)
        return WaitingStatistics(ready, parked, len(self._lots), len(self._aside))

    def add(self, pod: Pod, demand: Demand) -> None:
        """Take a Pod in; one that is known and asks for the same only gets its new view."""
        uid = pod.metadata.uid
        waiter = self._waiters.get(uid)
        if waiter and waiter.demand.signature == demand.signature:
            waiter.pod = pod
            return
        if waiter:  # it asks for something else now, but keeps its turn
            self.drop(uid)
            waiter.pod, waiter.demand = pod, demand
            self.put_back(waiter)
            return
        self._arrivals += 1
        self.put_back(Waiter(pod, demand, self._arrivals))

    def put_back(self, waiter: Waiter) -> None:
        """Make ready a waiter that was dropped, in its old turn."""
        self._waiters[waiter.pod.metadata.uid] = waiter
        self._ready(waiter)

    def drop(self, uid: str) -> None:
        """Let go of a Pod, if it waits here."""
        waiter = self._waiters.pop(uid, None)
        if waiter is None:
            return
        waiter.queued = False
        self._aside.discard(uid)
        self._leave_lot(waiter)

    def _leave_lot(self, waiter: Waiter) -> None:
        if lot := self._lots.get(waiter.demand.signature):
            lot.waiters.pop(waiter.pod.metadata.uid, None)
            if not lot.waiters:
                del self._lots[waiter.demand.signature]

    def set_aside(self, waiter: Waiter) -> None:
        """Keep a Pod until it is made ready by name, parked or dropped."""
        self._leave_lot(waiter)
        self._aside.add(waiter.pod.metadata.uid)

    def aside(self, uid: str) -> Waiter | None:
        """Return the Pod with *uid* if it is set aside."""
        return self._waiters[uid] if uid in self._aside else None

    def ready(self, uid: str) -> None:
        """Make ready one that was set aside."""
        if waiter := self.aside(uid):
            self._aside.discard(uid)
            self._ready(waiter)

    def take(self) -> Iterator[Waiter]:
        """Yield the ready ones, and those that become ready meanwhile, until none is left.

        Each stays here until it is dropped, because it has a place, or parked.
        """
        while self._heap:
            _, arrival, uid = heappop(self._heap)
            waiter = self._waiters.get(uid)
            if waiter and waiter.arrival == arrival and waiter.queued:
                waiter.queued = False
                yield waiter

    def get(self, uid: str) -> Waiter:
        return self._waiters[uid]

    def parked_as(self, demand: Demand) -> Lot | None:
        """Return the parked Pods that ask for the same as *demand*."""
        return self._lots.get(demand.signature)

    def park(self, waiter: Waiter, explanation: Explanation, version: tuple[int, int]) -> None:
        """Put a refused Pod with its like, for all of which *explanation* is the latest news."""
        self._aside.discard(waiter.pod.metadata.uid)
        lot = self._lots.setdefault(waiter.demand.signature, Lot(explanation, version))
        lot.explanation, lot.version = explanation, version
        lot.waiters[waiter.pod.metadata.uid] = waiter

    def follow(self, demand: Demand) -> None:
        """Try the next of the Pods that ask for *demand*, as one has just found a place."""
        if lot := self._lots.get(demand.signature):
            self._ready(next(iter(lot.waiters.values())))

    def wake(self, cure: Cure) -> None:
        """Try one Pod of every lot that *cure* can help."""
        for lot in self._lots.values():
            if cure in lot.explanation.cures:
                self._ready(next(iter(lot.waiters.values())))

    def wake_all(self) -> None:
        """Try every single Pod, if only to bring what it is told up to date."""
        for lot in self._lots.values():
            for waiter in lot.waiters.values():
                self._ready(waiter)

    def _ready(self, waiter: Waiter) -> None:
        if not waiter.queued:
            waiter.queued = True
            entry = (-waiter.demand.priority, waiter.arrival, waiter.pod.metadata.uid)
            heappush(self._heap, entry)
