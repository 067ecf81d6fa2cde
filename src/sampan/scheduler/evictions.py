"""Carries out preemptions: tells the victims, deletes them, and knows who waits for whom to go.

Beside the decisions and never in their way. A victim is told why in its conditions and by an event
before it is deleted, as kube-scheduler does.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Final

from msgspec import field

from sampan.aio.backoff import Backoff
from sampan.aio.queue import KeyedQueue
from sampan.api import kinds
from sampan.api.errors import ApiError, Conflict, NotFound
from sampan.api.objects import Object, Resource, View
from sampan.api.selectors import from_label_selector
from sampan.api.time import timestamp
from sampan.client.cache import Cache, Delta
from sampan.client.interface import Client, PatchType
from sampan.scheduler.columns import Held
from sampan.scheduler.news import News
from sampan.scheduler.preempt import Budget, Circumstances
from sampan.scheduler.views import Pod

WORKERS: Final = 8
"""How many victims are told and deleted at once."""

log = logging.getLogger(__name__)


class BudgetSpec(View):
    selector: Object | None = None


class BudgetStatus(View):
    disruptions_allowed: int = 0
    disrupted_pods: dict[str, Any] = field(default_factory=dict)


class PodDisruptionBudget(Resource):
    KIND = kinds.BY_GVK["policy/v1", "PodDisruptionBudget"]
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()


@dataclass(frozen=True, slots=True)
class _Order:
    victim: Pod
    preemptor: Pod
    node: str


class Evictions:
    def __init__(
        self, client: Client, cache: Cache, news: News, now: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._cache = cache
        self._news = news
        self._now = now
        self._budgets: dict[str, Budget] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._orders: dict[str, _Order] = {}
        self._due: KeyedQueue[str] = KeyedQueue(Backoff(first=0.1, cap=10.0))
        self._awaited: defaultdict[str, set[str]] = defaultdict(set)
        self._awaiting: defaultdict[str, set[str]] = defaultdict(set)

    # ---- what preemption minds

    def budget_changed(self, delta: Delta[PodDisruptionBudget]) -> None:
        key = delta.latest.metadata.key
        selector = from_label_selector(delta.latest.spec.selector)
        if delta.new is None or selector is None:
            self._budgets.pop(key, None)
            return
        status = delta.new.status
        self._budgets[key] = Budget(
            delta.new.metadata.namespace,
            selector,
            status.disruptions_allowed,
            frozenset(self._uids(delta.new.metadata.namespace, status.disrupted_pods)),
        )

    def _uids(self, namespace: str, names: Mapping[str, Any]) -> Iterable[str]:
        """Return the Pods of these names; most budgets name none, so nobody keeps an index."""
        if not names:
            return ()
        keys = self._keys.items()
        return (uid for uid, (space, name) in keys if space == namespace and name in names)

    def know(self, pod: Pod) -> None:
        """Remember where to find a Pod that counts on some node."""
        self._keys[pod.metadata.uid] = (pod.metadata.namespace, pod.metadata.name)

    def key(self, uid: str) -> tuple[str, str] | None:
        """Return namespace and name of a Pod that counts on some node."""
        return self._keys.get(uid)

    @property
    def circumstances(self) -> Circumstances:
        return Circumstances(list(self._budgets.values()), self._started)

    def _started(self, uid: str) -> float:
        pod = self._pod(uid)
        return pod.status.start_time.timestamp() if pod and pod.status.start_time else inf

    def _pod(self, uid: str) -> Pod | None:
        key = self._keys.get(uid)
        pod = self._cache.get(Pod, *key) if key else None
        return pod if pod and pod.metadata.uid == uid else None

    # ---- who must go, and who waits for it

    def evict(self, victims: Iterable[Held], preemptor: Pod, node: str) -> None:
        for held in victims:
            for budget in self._budgets.values():
                if budget.means(held):
                    budget.allowed -= 1  # until the budget's own controller has counted
            if victim := self._pod(held.uid):
                self._orders[held.uid] = _Order(victim, preemptor, node)
                self._due.add(held.uid)

    def wait_for(self, uids: Iterable[str], preemptor: str) -> None:
        """Have `gone` name *preemptor* once none of *uids* is left."""
        for uid in uids:
            self._awaited[uid].add(preemptor)
            self._awaiting[preemptor].add(uid)

    def gone(self, uid: str) -> list[str]:
        """Forget a Pod; return the preemptors that have nobody more to wait for."""
        self._keys.pop(uid, None)
        self._orders.pop(uid, None)
        self.give_up(uid)
        free = []
        for preemptor in self._awaited.pop(uid, ()):
            left = self._awaiting[preemptor]
            left.discard(uid)
            if not left:
                del self._awaiting[preemptor]
                free.append(preemptor)
        return free

    def give_up(self, preemptor: str) -> None:
        """Let a preemptor no longer wait for anybody."""
        for uid in self._awaiting.pop(preemptor, ()):
            self._awaited[uid].discard(preemptor)
            if not self._awaited[uid]:
                del self._awaited[uid]

    def ordered(self, uid: str) -> bool:
        """Say whether a Pod is to be deleted, though it may not know yet."""
        return uid in self._orders

    # ---- carrying out

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._carry_out_all())

    async def _carry_out_all(self) -> None:
        async for uid in self._due:
            try:
                if order := self._orders.get(uid):
                    await self._carry_out(order)
            except (NotFound, Conflict):
                self._due.done(uid)  # it is gone, or another has its name
            except (ApiError, OSError, TimeoutError) as error:
                log.info("evicting Pod %s: %s", uid, error)
                self._due.retry(uid, error)
            else:
                self._due.done(uid)

    async def _carry_out(self, order: _Order) -> None:
        meta = order.victim.metadata
        told: Object = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{order.preemptor.spec.scheduler_name}: preempting to accommodate a higher "
            "priority pod",
            "lastTransitionTime": timestamp(self._now()),
        }
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [told]}}
        await self._client.patch(
            kinds.PODS,
            meta.name,
            patch,
            meta.namespace,
            subresource="status",
            how=PatchType.STRATEGIC,
        )
        await self._client.delete(kinds.PODS, meta.name, meta.namespace, uid=meta.uid)
        by = order.preemptor.metadata.uid
        text = f"Preempted by pod {by} on node {order.node}"
        self._news.event(order.victim, "Normal", "Preempted", text)
