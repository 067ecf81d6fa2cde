"""Makes room for refused Pods, beside the decisions: one at a time, and others have turns between.

A Pod for which room is made is set aside from the queue and nominated: its node's room is reserved
for it. It is tried again when its last victim is gone, when a node changes, and now and then.
"""

import asyncio
from collections.abc import Callable

from sampan.scheduler.evictions import Evictions
from sampan.scheduler.explain import Explanation, explain
from sampan.scheduler.news import News
from sampan.scheduler.place import Placer
from sampan.scheduler.preempt import Preemption, preempt
from sampan.scheduler.waiting import Waiter, Waiting

Tell = Callable[[Waiter, Explanation], None]


class Preemptor:
    def __init__(
        self,
        placer: Placer,
        waiting: Waiting,
        evictions: Evictions,
        news: News,
        *,
        park: Tell,
        tell: Tell,
        freed: Callable[[], None],
    ) -> None:
        """*park* takes Pods for which nothing can be done; *freed* is called when anybody may try.

        *tell* is for those for which something is done.
        """
        self._placer = placer
        self._table = placer.table
        self._waiting = waiting
        self._evictions = evictions
        self._news = news
        self._park = park
        self._tell = tell
        self._freed = freed
        self._due: asyncio.Queue[str] = asyncio.Queue()

    def take(self, waiter: Waiter) -> bool:
        """Take over a Pod that was refused, if there is room to make for it or to wait for."""
        uid, demand = waiter.pod.metadata.uid, waiter.demand
        if node := self._placer.nominated.get(uid):
            if self._still_leaving(waiter, node):
                self._waiting.set_aside(waiter)
                return True
            self.withdraw(waiter)
        if not demand.preempts or not self._table.lower(demand.priority):
            return False
        self._waiting.set_aside(waiter)
        self._due.put_nowait(uid)
        return True

    def forget(self, uid: str) -> None:
        """Give up what was promised to a Pod that is gone, or bound by somebody else."""
        self._evictions.give_up(uid)
        if self._placer.denominate(uid):
            self._freed()

    def withdraw(self, waiter: Waiter) -> None:
        """Take back the promise of a node."""
        self.forget(waiter.pod.metadata.uid)
        self._news.nominated(waiter.pod, "")

    def wake(self) -> None:
        """Have all nominated Pods tried."""
        for uid in self._placer.nominated:
            self._waiting.ready(uid)

    async def run(self) -> None:
        while True:
            uid = await self._due.get()
            if waiter := self._waiting.aside(uid):
                self._make_room(waiter)
            await asyncio.sleep(0)

    def _make_room(self, waiter: Waiter) -> None:
        """Make room for a refused Pod if less important ones can go, else park it."""
        ask = self._placer.ask(waiter.demand)
        if self._placer.best(ask) is not None:
            self._waiting.ready(waiter.pod.metadata.uid)  # there is room by now
            self._freed()
        elif found := preempt(self._placer, ask, self._evictions.circumstances):
            explanation = explain(self._placer, ask, _said(found))
            self._nominate(waiter, found)
            self._tell(waiter, explanation)
        else:
            self._park(waiter, explain(self._placer, ask))

    def _nominate(self, waiter: Waiter, found: Preemption) -> None:
        uid, node = waiter.pod.metadata.uid, found.node
        for other in found.lifted:
            self.withdraw(self._waiting.get(other))
            self._waiting.ready(other)
        self._placer.nominate(uid, waiter.demand, node)
        self._news.nominated(waiter.pod, node)
        self._evictions.evict(found.victims, waiter.pod, node)
        self._evictions.wait_for((held.uid for held in (*found.victims, *found.leaving)), uid)
        if not found.victims and not found.leaving:
            self._waiting.ready(uid)
            self._freed()

    def _still_leaving(self, waiter: Waiter, node: str) -> bool:
        """Say whether a nominated Pod has to wait for somebody who leaves its node."""
        row = self._table.rows.get(node)
        if row is None or not self._table.alive[row]:
            return False
        leaving = [
            held.uid
            for held in self._table.residents[row].values()
            if held.demand.priority < waiter.demand.priority
            and (held.leaving or self._evictions.ordered(held.uid))
        ]
        self._evictions.wait_for(leaving, waiter.pod.metadata.uid)
        return bool(leaving)


def _said(found: Preemption) -> str:
    number = len(found.victims) + len(found.leaving)
    if not number:
        return f"{found.node} is kept for it now."
    return f"Making room on {found.node}: {number} Pod(s) of lower priority have to go."
