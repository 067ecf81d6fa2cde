"""The probes that are running: one task a probe of a running container."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from sampan.agent.events import Events
from sampan.agent.handlers import Target, ask
from sampan.agent.probes import ProbeKind, ProbeState, Step, first_wait, probes_of, step
from sampan.agent.record import Clock, Poke, Record
from sampan.agent.runtime import Container, Runtime
from sampan.agent.spec import ContainerSpec, Probe

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
_TITLES: Final = {"startup": "Startup", "liveness": "Liveness", "readiness": "Readiness"}


class Prober:
    def __init__(
        self,
        runtime: Runtime,
        events: Events,
        node_ip: str,
        *,
        spawn: Spawn,
        poke: Poke,
        now: Clock,
    ) -> None:
        self._runtime = runtime
        self._events = events
        self._node_ip = node_ip
        self._spawn = spawn
        self._poke = poke
        self._now = now
        self._tasks: dict[str, dict[tuple[str, ProbeKind], asyncio.Task[None]]] = {}

    def attend(self, record: Record) -> None:
        """Have exactly those probes of a Pod running that should be."""
        wanted = self._wanted(record)
        tasks = self._tasks.get(record.uid)
        if not wanted and not tasks:
            return
        tasks = self._tasks.setdefault(record.uid, {})
        for key in [key for key in tasks if key not in wanted]:
            tasks.pop(key).cancel()
        for key, (container, run, probe) in wanted.items():
            if key not in tasks:
                tasks[key] = self._spawn(self._run(record, container, run, key[1], probe))
        if not tasks:
            del self._tasks[record.uid]

    def _wanted(
        self, record: Record
    ) -> dict[tuple[str, ProbeKind], tuple[ContainerSpec, Container, Probe]]:
        wanted = {}
        for container in record.pod.every_container:
            run = record.seen.latest(container.name)
            if run is None or not run.running:
                continue
            for kind, probe in probes_of(container).items():
                if _due(record, container, run, kind):
                    wanted[run.id, kind] = (container, run, probe)
        return wanted

    async def _run(
        self,
        record: Record,
        container: ContainerSpec,
        run: Container,
        kind: ProbeKind,
        probe: Probe,
    ) -> None:
        loop = asyncio.get_running_loop()
        born = loop.time() - max((self._now() - (run.started_at or self._now())).total_seconds(), 0)
        newest = record.seen.newest
        ip = (
            self._node_ip
            if record.pod.spec.host_network or not newest
            else next(iter(newest.ips), "")
        )
        state = ProbeState(
            verdict=True if kind == "readiness" and record.of(container.name).ready else None
        )
        await asyncio.sleep(first_wait(probe, loop.time() - born))
        while True:
            answer = await ask(self._runtime, Target(run.id, container, ip), probe)
            taken = step(kind, probe, state, answer, loop.time() - born)
            self._take(record, container, run, kind, probe, taken, state.verdict)
            state = taken.state
            await asyncio.sleep(max(taken.wait, 0))

    def _take(
        self,
        record: Record,
        container: ContainerSpec,
        run: Container,
        kind: ProbeKind,
        probe: Probe,
        taken: Step,
        before: bool | None,  # noqa: FBT001 - a verdict, not a flag
    ) -> None:
        name = container.name
        if taken.report:
            text = f"{_TITLES[kind]} probe failed: {taken.report}"
            self._events.record(record.pod, "Warning", "Unhealthy", text, name)
        verdict = taken.state.verdict
        if verdict == before or record.of(name).probed != run.id:
            return
        if kind == "readiness":
            record.remember(name, ready=verdict)
        elif verdict and kind == "startup":
            record.remember(name, started=True)
        elif not verdict:
            grace = probe.termination_grace_period_seconds
            record.remember(name, unhealthy=f"failed {kind} probe", grace=grace)
        self._poke(record.uid)


def _due(record: Record, container: ContainerSpec, run: Container, kind: ProbeKind) -> bool:
    memory = record.of(container.name)
    ending = run.id in memory.stopping or record.gone or record.pod.metadata.deleting
    started = container.startup_probe is None or (memory.probed == run.id and memory.started)
    if kind == "startup":
        return not started and not ending
    if kind == "liveness":
        return started and not ending
    return started and not record.gone
