"""The Pods of one node made real: the shell around `plan` and `status`.

A key is a Pod's uid, and one worker at a time has it: look at what is known, plan, do, until there
is nothing left to do now. What wakes a key is news: from the API's watch, from the runtime, from
probes, from work that went on beside.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from sampan.agent.after import awaited, awaited_services
from sampan.agent.claims import Claims
from sampan.agent.config import AgentConfig
from sampan.agent.containerconfig import Cluster
from sampan.agent.env import ConfigError
from sampan.agent.events import Events
from sampan.agent.lookout import Lookout
from sampan.agent.memory import Seen, recall
from sampan.agent.network_acks import Farewells, Unfinished, left
from sampan.agent.payload import is_payload
from sampan.agent.plan import CheckAgain, Situation, plan
from sampan.agent.pressure import Gauges, Pressure
from sampan.agent.prober import Prober
from sampan.agent.pulls import Images
from sampan.agent.record import Record, downward, only_status
from sampan.agent.reporter import LATER, Reporter
from sampan.agent.resources import node_capacity
from sampan.agent.rotation import Rotation
from sampan.agent.runtime import Container, Runtime, RuntimeFailure
from sampan.agent.sources import Answers, Sources
from sampan.agent.spec import NodePod
from sampan.agent.tools import Connected, Tools
from sampan.agent.volumes import Volumes
from sampan.agent.work import Turn, Work
from sampan.aio.backoff import Backoff
from sampan.aio.queue import KeyedQueue
from sampan.api.errors import ApiError
from sampan.api.objects import EndpointSlice, Node, Service
from sampan.client.cache import Cache, Delta, Interest
from sampan.client.interface import Client

REFRESH: Final = 20.0
"""How old what a volume shows of the API may get, in seconds."""
ROUNDS: Final = 64
"""A Pod that is not settled after so many plans in a row lets others go first."""
NEIGHBOURS: Final = (Interest(Service), Interest(EndpointSlice), Interest(Node))
"""What `Pods` reads of the rest of the cluster."""

log = logging.getLogger(__name__)


def _wall_clock() -> datetime:
    return datetime.now(UTC)


async def _no_connections(_address: str) -> int:
    return 0


async def _at_once(_pod: NodePod, _address: str) -> None:
    """Nothing stands in a Pod's way."""


class Pods:
    """*neighbours* follows (at least) `NEIGHBOURS` and is run by the caller.

    *unfinished* counts the connections to an address of this node that are not done yet;
    *connected* waits until a Pod may send from its address.
    """

    def __init__(
        self,
        config: AgentConfig,
        client: Client,
        runtime: Runtime,
        neighbours: Cache,
        *,
        unfinished: Unfinished = _no_connections,
        connected: Connected = _at_once,
        gauges: Gauges | None = None,
        now: Callable[[], datetime] = _wall_clock,
    ) -> None:
        self._neighbours = neighbours
        self._farewells = Farewells(client, neighbours, unfinished)
        self._now = now
        self._records: dict[str, Record] = {}
        self._queue: KeyedQueue[str] = KeyedQueue(Backoff(first=0.05, cap=30.0))
        self._group: asyncio.TaskGroup | None = None
        fields = f"spec.nodeName={config.node_name}"
        self._cache = Cache(client, [Interest(NodePod, fields=fields)])
        self._events = Events(client, config.node_name, now)
        self._images = Images(runtime)
        capacity = node_capacity()
        # Starting is all CPU: more at once than there are cores only makes each one later.
        self._starting = asyncio.Semaphore(max(capacity.cpus, 2))
        sources = Sources(client)
        self._claims = Claims(client, config.node_name, config.claims_dir)
        self._tools = Tools(
            ip=config.node_ip,
            log_dir=config.log_dir,
            cluster=Cluster(config.dns_ip, config.cluster_domain),
            capacity=capacity,
            client=client,
            runtime=runtime,
            volumes=Volumes(config.volume_dir, config.run_dir / "volumes", sources, self._claims),
            sources=sources,
            images=self._images,
            events=self._events,
            services=lambda: neighbours.all(Service),
            connected=connected,
            spawn=self._spawn,
            poke=self._poke,
            now=now,
        )
        self._reporter = Reporter(client, config.node_ip, self._look)
        self._work = Work(self._tools, flush=self._flush, forget=self._drop)
        self._lookout = Lookout(self._tools, self._work.containers, self._records)
        self._prober = Prober(
            runtime, self._events, config.node_ip, spawn=self._spawn, poke=self._poke, now=now
        )
        self._rotation = Rotation(runtime, self._containers_running, now)
        self._pressure = Pressure(config, self._records, self._events, self._poke, gauges)
        self._cache.subscribe(self._changed)
        neighbours.subscribe(self._neighbour_changed)

    async def run(self) -> None:
        """Make this node's Pods real until cancelled; containers go on without us."""
        self._records.clear()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._cache.run())
                await self._cache.synced()
                await self._neighbours.synced()
                self._group = group
                await self._adopt()
                group.create_task(self._lookout.follow())
                group.create_task(self._lookout.relist_sometimes())
                group.create_task(self._refresh_sometimes())
                group.create_task(self._events.run())
                group.create_task(self._reporter.run())
                group.create_task(self._claims.run())
                group.create_task(self._rotation.run())
                group.create_task(self._pressure.run())
                group.create_task(self._farewells.run())
                async for uid in self._queue:
                    group.create_task(self._attend(uid))
        finally:
            self._group = None

    def live(self) -> Iterable[NodePod]:
        """The Pods that this node cares for now."""
        return [record.pod for record in self._records.values() if not record.gone]

    def running(self) -> Iterable[tuple[NodePod, Seen]]:
        """The same, each with what the runtime shows of it."""
        return [(r.pod, r.seen) for r in self._records.values() if not r.gone]

    def _containers_running(self) -> Iterable[Container]:
        return [c for r in self._records.values() for c in r.seen.containers if c.running]

    # One Pod

    async def _attend(self, uid: str) -> None:
        record = self._records.get(uid)
        try:
            if record is not None:
                await self._settle(record)
        except (RuntimeFailure, ApiError, OSError, TimeoutError) as error:
            log.warning("%s: %s", record.pod.metadata.key if record else uid, error)
            self._fail(uid, error)
        except Exception as error:  # one Pod's trouble must not end the others
            log.exception("%s: unexpected", record.pod.metadata.key if record else uid)
            self._fail(uid, error)
        else:
            self._queue.done(uid)

    def _fail(self, uid: str, error: Exception) -> None:
        if record := self._records.get(uid):
            record.stale = True
            self._report(record)
        self._queue.retry(uid, error)

    async def _settle(self, record: Record) -> None:
        """Plan and do until there is nothing to do now."""
        if record.stale:
            await self._lookout.look(record)
        async with Turn(self._starting) as turn:
            for number in range(ROUNDS):
                steps = plan(self._situation(record))
                due = [step for step in steps if not isinstance(step, CheckAgain)]
                if due and number == 0:
                    self._reporter.report(record.uid, after=LATER)  # what follows may take long
                for step in due:
                    await self._work.do(record, step, turn)
                if not due:
                    self._check_again(record.uid, steps)
                    break
            else:
                self._queue.add(record.uid, after=0.1)
        if record.pod.finished:
            self._tools.volumes.release(record.uid)
        self._prober.attend(record)
        self._report(record)

    def _check_again(self, uid: str, steps: Iterable[object]) -> None:
        waits = [step.after.total_seconds() for step in steps if isinstance(step, CheckAgain)]
        if waits:
            self._queue.add(uid, after=max(min(waits), 0.001))

    def _situation(self, record: Record) -> Situation:
        return Situation(
            pod=record.pod,
            seen=record.seen,
            memory=record.memory,
            now=self._now(),
            gone=record.gone,
            awaited=self._awaited(record),
            served=record.pod.metadata.deleting and self._served(record),
        )

    def _served(self, record: Record) -> bool:
        address = self._tools.pod_ip(record)
        return self._farewells.sent_to(record.uid, record.pod.metadata.namespace, address)

    def _awaited(self, record: Record) -> str:
        if record.seen.containers or not awaited_services(record.pod):
            return ""
        slices = self._neighbours.all(EndpointSlice, record.pod.metadata.namespace)
        return awaited(record.pod, slices)

    def _report(self, record: Record) -> None:
        if not record.gone:
            self._reporter.report(record.uid)

    def _look(self, uid: str) -> tuple[Record, Situation] | None:
        record = self._records.get(uid)
        return (record, self._situation(record)) if record else None

    async def _flush(self, record: Record) -> None:
        await self._reporter.flush(record, self._situation(record))

    def _drop(self, record: Record) -> None:
        self._records.pop(record.uid, None)
        self._prober.attend(record)

    def _poke(self, uid: str) -> None:
        if uid in self._records:
            self._queue.add(uid)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self._group is None:
            work.close()
            raise RuntimeError("the agent's Pods are not running")
        return self._group.create_task(self._guard(work))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # what goes on beside a Pod must not end all the others
            log.exception("unexpected, beside a Pod's work")

    # What the API says

    def _changed(self, delta: Delta[NodePod]) -> None:
        if self._group is None:
            return
        old, new = delta.old, delta.new
        if old and (new is None or new.uid != old.uid) and (lost := self._records.get(old.uid)):
            lost.gone = True
            self._queue.add(old.uid)
        if new is None:
            return
        record = self._records.get(new.uid)
        if record is None:
            record = self._records[new.uid] = self._taken_up(new)
            record.stale = False
        elif old and new.uid == old.uid and only_status(old, new):
            record.pod = new
            if not record.is_own_write(new):
                self._report(record)
            return
        record.pod = new
        if new.metadata.deleting and record.memory.ending_at is None:
            record.note(ending_at=self._now())
        self._queue.add(new.uid)
        if old and downward(old) != downward(new):
            self._spawn(self._refresh([record]))

    def _taken_up(self, pod: NodePod) -> Record:
        return Record(pod, recall(pod.status, self._now()))

    async def _adopt(self) -> None:
        """Take up what runs already, and find what runs for nobody any more."""
        for pod in self._cache.all(NodePod):
            self._records[pod.uid] = self._taken_up(pod)
        await self._lookout.adopt()

    def _neighbour_changed(self, delta: Delta[Any]) -> None:
        if delta.view is not EndpointSlice:
            return
        piece, leaving = delta.latest, left(delta)
        for record in self._records.values():
            if record.pod.metadata.namespace != piece.metadata.namespace:
                continue
            if self._tools.pod_ip(record) in leaving and self._group:
                self._spawn(self._say_farewell(record, delta))
            elif piece.service in awaited_services(record.pod):
                self._poke(record.uid)

    async def _say_farewell(self, record: Record, delta: Delta[EndpointSlice]) -> None:
        await self._farewells.wait(record.uid, self._tools.pod_ip(record), delta)
        record.note(drained_at=self._now())
        self._poke(record.uid)

    # Volumes that show what the API has

    async def _refresh_sometimes(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            live = [r for r in self._records.values() if r.memory.prepared and not r.gone]
            await self._refresh(live)

    async def _refresh(self, records: Iterable[Record]) -> None:
        answers: Answers = {}
        for record in records:
            if not any(is_payload(volume) for volume in record.pod.spec.volumes):
                continue
            try:
                await self._tools.volumes.refresh(self._tools.around(record), answers)
            except (ConfigError, OSError, ApiError) as error:
                log.info("%s: volumes not brought up to date: %s", record.pod.metadata.key, error)
