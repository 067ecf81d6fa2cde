"""Keeps the node able to work: Pods that take too much are evicted, before the kernel chooses.

Every ten seconds: who exceeds a limit of local storage goes; and if memory, disk or process ids run
short, one Pod goes, the next only when that has ended and it is still not enough.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from sampan.agent.cgroups import Cgroups, disk_usage, writable_layer
from sampan.agent.config import AgentConfig
from sampan.agent.events import Events
from sampan.agent.eviction import (
    Limits,
    PodUsage,
    is_limited,
    over_limit,
    shortage,
    victim,
)
from sampan.agent.machine import Headroom, Machine
from sampan.agent.record import Poke, Record
from sampan.agent.registration import MEMORY_RESERVE, PIDS_RESERVE, disk_reserve
from sampan.agent.spec import NodePod

LOOK: Final = 10.0


class Gauges(Struct, frozen=True):
    """What is left of the node; and what a Pod uses, without its disk unless that is asked for."""

    headroom: Callable[[], Headroom]
    measure: Callable[[Record, bool], PodUsage]


def gauges_of(config: AgentConfig) -> Gauges:
    return Gauges(lambda: Headroom.read(config.data_dir), Meter(config).measure)


log = logging.getLogger(__name__)


class Pressure:
    """*records* are the shell's own, by the Pod's uid."""

    def __init__(
        self,
        config: AgentConfig,
        records: Mapping[str, Record],
        events: Events,
        poke: Poke,
        gauges: Gauges | None = None,
    ) -> None:
        self._records = records
        self._events = events
        self._poke = poke
        self._gauges = gauges or gauges_of(config)
        self._config = config
        self._evicting: set[str] = set()

    async def run(self) -> None:
        machine = await asyncio.to_thread(Machine.read, self._existing())
        least = Limits(memory=MEMORY_RESERVE, disk=disk_reserve(machine), pids=PIDS_RESERVE)
        while True:
            await asyncio.sleep(LOOK)
            await self.look(least)

    def _existing(self) -> Path:
        return next(
            p for p in (self._config.data_dir, *self._config.data_dir.parents) if p.exists()
        )

    async def look(self, least: Limits) -> None:
        """Evict whoever has to go now."""
        live = {uid: r for uid, r in self._records.items() if _is_live(r)}
        for record in live.values():
            if is_limited(record.pod):
                used = await asyncio.to_thread(self._gauges.measure, record, True)
                if why := over_limit(record.pod, used):
                    self._evict(record, why)
        short = shortage(self._gauges.headroom(), least)
        self._evicting &= {
            uid for uid, r in live.items() if any(c.running for c in r.seen.containers)
        }
        if short is None or self._evicting:
            return
        disk = short[0] == "ephemeral-storage"
        used_by = {
            uid: await asyncio.to_thread(self._gauges.measure, record, disk)
            for uid, record in live.items()
            if not record.memory.evicted
        }
        chosen = victim(short, [record.pod for record in live.values()], used_by)
        if chosen:
            self._evict(live[chosen.uid], chosen.why)
            self._evicting.add(chosen.uid)

    def _evict(self, record: Record, why: str) -> None:
        if record.memory.evicted:
            return
        log.warning("%s is evicted: %s", record.pod.metadata.key, why)
        record.note(evicted=why)
        self._events.record(record.pod, "Warning", "Evicted", why)
        self._poke(record.uid)


def _is_live(record: Record) -> bool:
    return not (record.gone or record.pod.finished or record.pod.metadata.deleting)


class Meter:
    """Reads what Pods use from control groups and the file system."""

    def __init__(self, config: AgentConfig, cgroups: Cgroups | None = None) -> None:
        self._config = config
        self._cgroups = cgroups or Cgroups()

    def measure(self, record: Record, disk: bool) -> PodUsage:  # noqa: FBT001 - see Gauges
        """Say what a Pod uses; slow with *disk*, without it that is left out."""
        memory, written, processes = {}, {}, 0
        for run in record.seen.containers:
            used = self._cgroups.usage(run.id) if run.running else None
            if used:
                memory[run.name] = used.working_set
                processes += used.processes
            if disk:
                layer = writable_layer(self._cgroups.first_process(run.id)) if used else None
                logs = Path(run.log_path).parent if run.log_path else None
                written[run.name] = sum(disk_usage(p) for p in (layer, logs) if p)
        volumes = self._volumes(record.pod) if disk else {}
        return PodUsage(memory=memory, disk=written, volumes=volumes, processes=processes)

    def _volumes(self, pod: NodePod) -> dict[str, int]:
        root = self._config.volume_dir / pod.uid / "volumes"
        scratch = (v for v in pod.spec.volumes if "emptyDir" in v)
        on_disk = (v for v in scratch if (v["emptyDir"] or {}).get("medium") != "Memory")
        return {v["name"]: disk_usage(root / v["name"]) for v in on_disk}
