"""The scheduler's shell: what the cluster looks like flows in, bindings flow out.

Deciding never waits for the API: a placement is assumed in the table and handed to binders, and
taken back if the binding fails. Refused Pods cost nothing until something changes that can help.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any, Final

from sampan.aio.backoff import Backoff
from sampan.api import kinds
from sampan.api.errors import (
    ApiError,
    Conflict,
    InternalError,
    NotFound,
    ServiceUnavailable,
    Timeout,
)
from sampan.api.objects import Namespace, Node, Object, Resource, Service
from sampan.client.cache import Cache, Delta, Interest
from sampan.client.events import wall_clock
from sampan.client.interface import Client
from sampan.scheduler import volumes
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import PLACEMENT
from sampan.scheduler.evictions import Evictions, PodDisruptionBudget
from sampan.scheduler.explain import Explanation, explain
from sampan.scheduler.meter import Meter, Spent
from sampan.scheduler.news import News
from sampan.scheduler.own import OwnRules
from sampan.scheduler.place import Placed, Placer, Refused
from sampan.scheduler.policies import POLICIES
from sampan.scheduler.preemptor import Preemptor
from sampan.scheduler.profile import profiles
from sampan.scheduler.reader import Reader
from sampan.scheduler.rules import Cure
from sampan.scheduler.storage import CsiNode
from sampan.scheduler.views import Pod
from sampan.scheduler.waiting import Waiter, Waiting, WaitingStatistics

SLICE: Final = 0.005
"""Seconds of deciding after which everybody else has a turn."""
BINDERS: Final = 64
"""How many bindings are on their way at once; a durable store commits them together."""
TOLD_ANEW: Final = 10.0
"""Seconds before new numbers, without a new reason, are worth another message."""
SAFETY: Final = 60.0
"""Seconds after which refused Pods are tried again even if nothing that we know of has changed."""
REST: Final = 0.001
"""Seconds of rest for every kind of refused Pods before they are tried again."""

FOLLOWED: Final[Sequence[type[Resource]]] = (
    Namespace,
    Node,
    Pod,
    Service,
    PodDisruptionBudget,
    *volumes.FOLLOWED,
)

log = logging.getLogger(__name__)


async def run(
    client: Client,
    *,
    own: OwnRules | None = None,
    now: Callable[[], datetime] = wall_clock,
) -> None:
    """Give every Pod that asks for one of our profiles a node, until cancelled.

    *own* are a user's rules and profiles, beside the built-in ones.
    """
    await Scheduler(client, own=own, now=now).run()


class Scheduler:
    def __init__(
        self,
        client: Client,
        *,
        own: OwnRules | None = None,
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._client = client
        self._own = own
        self._profiles = own.profiles if own else profiles()
        self._table = Table()
        self._placer = Placer(self._table, self._profiles, Meter(perf_counter))
        self._waiting = Waiting()
        self._news = News(client, now, self._busy)
        self._to_bind: asyncio.Queue[tuple[Waiter, str]] = asyncio.Queue()
        self._backoff = Backoff(first=0.05, cap=10.0)
        self._turn = asyncio.Event()
        self._cures: set[Cure] = set()
        self._rest_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._binding = 0
        """How many bindings are under way, or queued."""
        self._cache = Cache(client, [Interest(view, indexes={}) for view in FOLLOWED])
        self._cache.subscribe(self._changed)
        self._evictions = Evictions(client, self._cache, self._news, now)
        self._volumes = volumes.VolumeBinder(
            client, bound=self._to_node, failed=self._bind_failed, reread=self._reread
        )
        self._reader = Reader(self._cache, self._volumes)
        self._preemptor = Preemptor(
            self._placer,
            self._waiting,
            self._evictions,
            self._news,
            park=self._park,
            tell=self._tell,
            freed=lambda: self._cure(Cure.POD_GONE),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._news.run(), name="scheduler news")
            group.create_task(self._decide(), name="scheduler")
            group.create_task(self._preemptor.run(), name="scheduler preemption")
            group.create_task(self._evictions.run(), name="scheduler evictions")
            group.create_task(self._volumes.run(), name="scheduler volumes")
            group.create_task(self._safety(), name="scheduler safety")
            for number in range(BINDERS):
                group.create_task(self._bind_all(), name=f"binder {number}")
            group.create_task(self._cache.run(), name="scheduler cache")

    def statistics(self) -> WaitingStatistics:
        return self._waiting.statistics()

    def rule_times(self) -> Mapping[str, Spent]:
        """How often each rule was asked, and how long that took in all."""
        return self._placer.meter.rules

    def _busy(self) -> bool:
        return bool(self._waiting) or bool(self._binding)

    # ---- what changed

    def _changed(self, delta: Delta[Any]) -> None:
        match delta.latest:
            case Pod():
                self._pod_changed(delta)
            case Node():
                self._node_changed(delta)
            case PodDisruptionBudget():
                self._evictions.budget_changed(delta)
            case Namespace():
                labels = delta.new.metadata.labels if delta.new else None
                if self._table.set_namespace(delta.latest.metadata.name, labels):
                    self._cure(Cure.NAMESPACE)
            case CsiNode():
                limits = delta.new.limits if delta.new else {}
                if self._table.set_limits(delta.latest.metadata.name, limits):
                    self._cure(Cure.NODE)
            case _:
                self._volumes.changed(delta)

    def _node_changed(self, delta: Delta[Node]) -> None:
        if delta.new is None:
            self._table.drop_node(delta.latest.metadata.name)
            self._cure(Cure.NODE)  # with it may go what was in the way elsewhere
        elif self._table.set_node(delta.new):
            self._cure(Cure.NODE)

    def _pod_changed(self, delta: Delta[Pod]) -> None:
        old, new = delta.old, delta.new
        if old and (new is None or new.metadata.uid != old.metadata.uid):
            self._gone(old)
        if new is None:
            return
        if new.finished:
            self._gone(new)
        elif not new.spec.node_name:
            self._pending(new)
        elif old is None or _differ(old, new):
            self._bound(new)

    def _gone(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._volumes.gone(pod)
        self._waiting.drop(uid)
        self._news.forget(uid)
        self._preemptor.forget(uid)
        for preemptor in self._evictions.gone(uid):
            self._waiting.ready(preemptor)
        if self._table.remove(uid):
            self._cure(Cure.POD_GONE)

    def _bound(self, pod: Pod) -> None:
        uid, node, leaving = pod.metadata.uid, pod.spec.node_name, pod.metadata.deleting
        self._waiting.drop(uid)
        self._news.forget(uid)
        self._preemptor.forget(uid)
        self._evictions.know(pod)
        demand = self._reader.read(pod) or self._reader.nothing(pod)
        self._volumes.placed(pod)
        held = self._table.held(uid)
        as_assumed = held and (self._table.names[held.row], held.demand) == (node, demand)
        if held and as_assumed and held.leaving == leaving:
            return
        self._table.add(uid, demand, node, leaving=leaving, devices=devices_of(pod))
        if held:
            self._cure(Cure.POD_GONE)
        if not as_assumed:
            self._cure(Cure.POD_CAME)

    def _pending(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        if pod.spec.scheduler_name not in self._profiles or self._table.held(uid):
            return  # another scheduler's, or on its way to a node
        if pod.metadata.deleting:
            self._waiting.drop(uid)
            self._preemptor.forget(uid)
        elif pod.spec.scheduling_gates:
            self._waiting.drop(uid)
            text = "Scheduling is blocked due to non-empty scheduling gates"
            self._news.not_scheduled(pod, "SchedulingGated", text)
        elif demand := self._reader.read(pod):
            promised = pod.status.nominated_node_name
            word = pod.metadata.annotations.get(PLACEMENT, "")
            if word and word not in POLICIES and uid not in self._waiting:
                text = f"{PLACEMENT} is {word!r}, which is none of {', '.join(POLICIES)}; ignored"
                self._news.event(pod, "Warning", "UnknownPlacement", text)
            if promised in self._table.rows and uid not in self._waiting:
                self._placer.nominate(uid, demand, promised)  # before a restart, or by others
            self._waiting.add(pod, demand)
            self._turn.set()
        else:
            text = "the scheduler cannot read what this Pod asks for; see its log"
            self._news.not_scheduled(pod, "Unschedulable", text)

    def _reread(self, pod: Pod) -> None:
        """Read *pod* again, as something about its claims has changed."""
        if pod.spec.node_name:
            self._bound(pod)
        else:
            self._pending(pod)

    def _cure(self, cure: Cure) -> None:
        self._cures.add(cure)
        self._turn.set()

    # ---- deciding

    async def _decide(self) -> None:
        await self._cache.synced()
        for pod in self._cache.all(Pod):
            if not pod.finished and (pod.spec.volumes or not pod.spec.node_name):
                self._reread(pod)  # by now all Services and claims are known
        while True:
            self._turn.clear()
            self._wake()
            while self._waiting:
                self._slice()
                await asyncio.sleep(0)
                self._wake()
            await self._turn.wait()

    def _wake(self) -> None:
        """Have refused Pods tried that can now be helped; the more kinds of them, the rarer."""
        if not self._cures:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._rest_until:
            if self._alarm is None:
                self._alarm = loop.call_at(self._rest_until, self._rested)
            return
        for cure in self._cures:
            self._waiting.wake(cure)
        if Cure.NODE in self._cures:
            self._preemptor.wake()
        self._cures.clear()
        self._rest_until = loop.time() + REST * self._waiting.lots

    def _rested(self) -> None:
        self._alarm = None
        self._turn.set()

    def _slice(self) -> None:
        """Decide about Pods for some milliseconds."""
        until = perf_counter() + SLICE
        pods = ((w.pod.metadata.uid, w.demand) for w in self._waiting.take())
        for outcome in self._placer.place(pods):
            match outcome:
                case Placed():
                    self._assumed(outcome)
                case Refused():
                    self._refused(outcome)
            if self._own and self._own.sandbox.faults:
                self._tell_faults(outcome.uid)
            if perf_counter() >= until:
                return

    def _tell_faults(self, uid: str) -> None:
        """Tell of own rules that failed about the Pod with *uid*."""
        key = self._evictions.key(uid)
        pod = self._cache.get(Pod, *key) if key else self._waiting.get(uid).pod
        for fault in self._own.sandbox.told() if self._own else ():
            log.warning("%s", fault)
            if pod:
                self._news.event(pod, "Warning", "SchedulingRuleFailed", fault)

    def _assumed(self, placed: Placed) -> None:
        waiter = self._waiting.get(placed.uid)
        self._waiting.drop(placed.uid)
        self._waiting.follow(placed.demand)
        self._news.forget(placed.uid)
        self._evictions.give_up(placed.uid)
        self._evictions.know(waiter.pod)
        self._cures.add(Cure.POD_CAME)
        if waiter.pod.spec.volumes:
            labels = self._table.labels[self._table.rows[placed.node]]
            self._volumes.take(waiter, placed.node, labels)
        else:
            self._to_node(waiter, placed.node)

    def _to_node(self, waiter: Waiter, node: str) -> None:
        self._binding += 1
        self._to_bind.put_nowait((waiter, node))

    def _refused(self, refused: Refused) -> None:
        waiter, demand = self._waiting.get(refused.uid), refused.demand
        if self._preemptor.take(waiter):
            return
        version, like = self._table.version, self._waiting.parked_as(demand)
        if like and like.version == version:
            explanation = like.explanation
        else:
            explanation = explain(self._placer, self._placer.ask(demand))
        self._park(waiter, explanation)

    def _park(self, waiter: Waiter, explanation: Explanation) -> None:
        self._waiting.park(waiter, explanation, self._table.version)
        self._tell(waiter, explanation)

    def _tell(self, waiter: Waiter, explanation: Explanation) -> None:
        """Tell of a refusal, unless that would be the same again or only other numbers again."""
        clock = asyncio.get_running_loop().time()
        told = waiter.told
        if told and (
            str(explanation) == str(told)
            or (explanation.summary == told.summary and clock < waiter.told_at + TOLD_ANEW)
        ):
            return
        waiter.told, waiter.told_at = explanation, clock
        self._news.not_scheduled(waiter.pod, "Unschedulable", str(explanation))
        self._news.event(waiter.pod, "Warning", "FailedScheduling", str(explanation))

    async def _safety(self) -> None:
        while True:
            await asyncio.sleep(SAFETY)
            self._waiting.wake_all()
            self._preemptor.wake()
            self._turn.set()

    # ---- binding

    async def _bind_all(self) -> None:
        while True:
            waiter, node = await self._to_bind.get()
            binding_of = self._binding_of(waiter.pod, node)
            try:
                await self._client.create(kinds.PODS, binding_of, subresource="binding")
            except (ApiError, OSError, TimeoutError) as error:
                if not await self._bound_after_all(waiter.pod, error):
                    self._bind_failed(waiter, node, error)
            else:
                text = f"Successfully assigned {waiter.pod.metadata.key} to {node}"
                self._news.event(waiter.pod, "Normal", "Scheduled", text)
            finally:
                self._binding -= 1

    async def _bound_after_all(self, pod: Pod, error: Exception) -> bool:
        """Ask whether a binding came through whose answer was lost; its room stays taken meanwhile.

        To take the assumption back unasked could promise the same room twice.
        """
        failures = 0
        while isinstance(error, ServiceUnavailable | Timeout | InternalError | OSError):
            try:
                found = Pod.of(
                    await self._client.get(kinds.PODS, pod.metadata.name, pod.metadata.namespace)
                )
            except NotFound:
                return False
            except (ApiError, OSError, TimeoutError):
                failures += 1
                await asyncio.sleep(self._backoff.delay(failures))
            else:
                return found.metadata.uid == pod.metadata.uid and bool(found.spec.node_name)
        return False

    def _binding_of(self, pod: Pod, node: str) -> Object:
        held = self._table.held(pod.metadata.uid)
        return binding(pod, node, held.devices if held else ())

    def _bind_failed(self, waiter: Waiter, node: str, error: Exception) -> None:
        """Take the assumption back; unless the Pod is bound or gone by now, it is tried again."""
        meta = waiter.pod.metadata
        known = self._cache.get(Pod, meta.namespace, meta.name)
        if known and known.metadata.uid == meta.uid and known.spec.node_name:
            return
        if self._table.remove(meta.uid):
            self._cure(Cure.POD_GONE)
        self._volumes.unplaced(waiter.pod)
        waiter.failures += 1
        pause = self._backoff.delay(waiter.failures)
        log.info("binding %s to %s: %s; again in %g s", meta.key, node, error, pause)
        if not isinstance(error, NotFound | Conflict):
            self._news.event(
                waiter.pod, "Warning", "FailedScheduling", f"binding to {node} failed: {error}"
            )
        asyncio.get_running_loop().call_later(pause, self._again, waiter)

    def _again(self, waiter: Waiter) -> None:
        meta = waiter.pod.metadata
        known = self._cache.get(Pod, meta.namespace, meta.name)
        if known is None or known.metadata.uid != meta.uid or known.metadata.deleting:
            return
        if meta.uid not in self._waiting and not known.spec.node_name:
            waiter.pod, waiter.demand = known, self._reader.read(known) or waiter.demand
            self._waiting.put_back(waiter)
            self._turn.set()


def _differ(old: Pod, new: Pod) -> bool:
    """Say whether anything has changed that a Pod counts for; most updates are of its status."""
    return (
        old.spec != new.spec
        or old.metadata.labels != new.metadata.labels
        or old.metadata.deleting != new.metadata.deleting
        or old.metadata.uid != new.metadata.uid
        or old.owner != new.owner
    )


GPUS: Final = "sampan.io/gpus"
"""A bound Pod's annotation: the numbers of its GPUs on the node."""


def devices_of(pod: Pod) -> tuple[int, ...]:
    numbers = pod.metadata.annotations.get(GPUS, "").split(",")
    return tuple(int(number) for number in numbers if number.isdecimal())


def binding(pod: Pod, node: str, devices: Sequence[int] = ()) -> Object:
    meta = pod.metadata
    named = {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}
    given = {"annotations": {GPUS: ",".join(map(str, devices))}} if devices else {}
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {**named, **given},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
