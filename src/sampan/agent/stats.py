"""What a node, its Pods and their containers use, in the shapes of a kubelet.

Rates need two readings, so one is taken every quarter of a minute; what is asked for is read then.
Sources: the kubelet's stats API v1alpha1 (`/stats/summary`) and `/metrics/resource`.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
from msgspec import Struct

from sampan.agent.cgroups import Cgroups, Traffic, Usage, disk_usage, traffic, writable_layer
from sampan.agent.config import AgentConfig
from sampan.agent.machine import memory_info
from sampan.agent.memory import Seen
from sampan.agent.runtime import Container
from sampan.agent.spec import NodePod
from sampan.agent.streams.stream import Params, Stream
from sampan.api.objects import Object
from sampan.api.time import timestamp

SAMPLED_EVERY: Final = 15.0
_LEAST_WINDOW: Final = 1.0
"""Seconds between two readings from which a rate may be told."""
_DISK_EVERY: Final = 60.0

Running = Callable[[], Iterable[tuple[NodePod, Seen]]]


class _Reading(Struct, frozen=True):
    at: float
    cpu_ns: int


class Stats:
    """*running* tells of the node's Pods and what runs for them."""

    def __init__(
        self,
        config: AgentConfig,
        running: Running,
        now: Callable[[], datetime],
        cgroups: Cgroups | None = None,
    ) -> None:
        self._config = config
        self._running = running
        self._now = now
        self._cgroups = cgroups or Cgroups()
        self._last: dict[str, _Reading] = {}
        self._rates: dict[str, int] = {}
        self._disk: dict[str, tuple[float, int]] = {}
        self._begun = now()

    async def run(self) -> None:
        """Take a reading of everything from time to time, until cancelled."""
        while True:
            self._sample()
            await asyncio.sleep(SAMPLED_EVERY)

    def _sample(self) -> None:
        alive = {""}
        self._rate("", self._cgroups.node()[0])
        for _, seen in self._running():
            for container in seen.containers:
                if container.running and (used := self._cgroups.usage(container.id)):
                    alive.add(container.id)
                    self._rate(container.id, used.cpu_ns)
        for table in (self._last, self._rates, self._disk):
            for gone in table.keys() - alive:
                del table[gone]

    def _rate(self, key: str, cpu_ns: int) -> int:
        """Return the cores in use, in nanocores, since the last reading that is old enough."""
        now, last = self._now().timestamp(), self._last.get(key)
        if last is None:
            self._last[key] = _Reading(now, cpu_ns)
            return 0
        if now - last.at >= _LEAST_WINDOW:
            self._rates[key] = max(round((cpu_ns - last.cpu_ns) / (now - last.at)), 0)
            self._last[key] = _Reading(now, cpu_ns)
        return self._rates.get(key, 0)

    # The kubelet's summary

    async def summary(self) -> Object:
        pods = [await self._pod(pod, seen) for pod, seen in self._running() if seen.sandbox]
        return {"node": self._node(), "pods": pods}

    def _node(self) -> Object:
        cpu, processes = self._cgroups.node()
        memory = memory_info()
        total, free = memory["MemTotal"], memory["MemAvailable"]
        files = file_system(self._config.data_dir)
        moment = timestamp(self._now())
        return {
            "nodeName": self._config.node_name,
            "startTime": timestamp(self._begun),
            "cpu": self._cpu("", cpu),
            "memory": {
                "time": moment,
                "availableBytes": free,
                "usageBytes": total - memory["MemFree"],
                "workingSetBytes": total - free,
                "rssBytes": memory.get("AnonPages", 0),
            },
            "network": self._network(traffic(os.getpid())),
            "fs": {"time": moment, **files},
            "runtime": {"imageFs": {"time": moment, **files}},
            "rlimit": {
                "time": moment,
                "maxpid": int(Path("/proc/sys/kernel/pid_max").read_text()),
                "curproc": processes,
            },
        }

    async def _pod(self, pod: NodePod, seen: Seen) -> Object:
        containers, usages = [], []
        for container in seen.containers:
            used = self._cgroups.usage(container.id) if container.running else None
            if used:
                usages.append((container.id, used))
                containers.append(await self._container(container, used))
        sandbox = seen.sandbox
        meta = pod.metadata
        pid = self._cgroups.first_process(sandbox.id) if sandbox else 0
        return {
            "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "startTime": pod.status.get("startTime"),
            "containers": containers,
            "cpu": {
                "time": timestamp(self._now()),
                "usageNanoCores": sum(self._rates.get(key, 0) for key, _ in usages),
                "usageCoreNanoSeconds": sum(used.cpu_ns for _, used in usages),
            },
            "memory": self._memory(_total([used for _, used in usages])),
            "network": self._network([] if pod.spec.host_network else traffic(pid)),
            "volume": [],
            "process_stats": {"process_count": sum(used.processes for _, used in usages)},
        }

    async def _container(self, container: Container, used: Usage) -> Object:
        moment = timestamp(self._now())
        written = await self._written(container)
        logs = await asyncio.to_thread(disk_usage, Path(container.log_path))
        return {
            "name": container.name,
            "startTime": timestamp(container.started_at or container.created_at),
            "cpu": self._cpu(container.id, used.cpu_ns),
            "memory": self._memory(used),
            "rootfs": {"time": moment, "usedBytes": written},
            "logs": {"time": moment, "usedBytes": logs if container.log_path else 0},
        }

    async def _written(self, container: Container) -> int:
        """How much a container has written to its own file system, a minute ago at most."""
        now = self._now().timestamp()
        at, size = self._disk.get(container.id, (-_DISK_EVERY, 0))
        if now - at >= _DISK_EVERY:
            layer = writable_layer(self._cgroups.first_process(container.id))
            size = await asyncio.to_thread(disk_usage, layer) if layer else 0
            self._disk[container.id] = (now, size)
        return size

    def _cpu(self, key: str, cpu_ns: int) -> Object:
        return {
            "time": timestamp(self._now()),
            "usageNanoCores": self._rate(key, cpu_ns),
            "usageCoreNanoSeconds": cpu_ns,
        }

    def _memory(self, used: Usage) -> Object:
        return {
            "time": timestamp(self._now()),
            "usageBytes": used.memory,
            "workingSetBytes": used.working_set,
            "rssBytes": used.rss,
            "pageFaults": used.faults,
            "majorPageFaults": used.major_faults,
        }

    def _network(self, interfaces: list[Traffic]) -> Object:
        listed = [
            {
                "name": each.name,
                "rxBytes": each.rx_bytes,
                "rxErrors": each.rx_errors,
                "txBytes": each.tx_bytes,
                "txErrors": each.tx_errors,
            }
            for each in interfaces
        ]
        main = next((each for each in listed if each["name"] == "eth0"), None)
        first = main or next(iter(listed), {})
        return {"time": timestamp(self._now()), **first, "interfaces": listed}

    # Prometheus

    def resource_metrics(self) -> str:
        """Return `/metrics/resource`: totals and working sets, for those who scrape."""
        lines = list(self._samples())
        families: dict[str, list[str]] = {}
        for family, line in lines:
            families.setdefault(family, []).append(line)
        text = []
        for family, found in families.items():
            kind = "counter" if family.endswith("_total") else "gauge"
            text += [f"# TYPE {family} {kind}", *found]
        return "\n".join([*text, "# TYPE scrape_error gauge", "scrape_error 0", ""])

    def _samples(self) -> Iterator[tuple[str, str]]:
        memory = memory_info()
        used = memory["MemTotal"] - memory["MemAvailable"]
        yield _sample("node_cpu_usage_seconds_total", {}, self._cgroups.node()[0] / 1e9)
        yield _sample("node_memory_working_set_bytes", {}, used)
        for pod, seen in self._running():
            meta = pod.metadata
            mine = {"namespace": meta.namespace, "pod": meta.name}
            usages = []
            for container in seen.containers:
                found = self._cgroups.usage(container.id) if container.running else None
                if found is None:
                    continue
                usages.append(found)
                labels = {"container": container.name, **mine}
                began = (container.started_at or container.created_at).timestamp()
                yield _sample("container_cpu_usage_seconds_total", labels, found.cpu_ns / 1e9)
                yield _sample("container_memory_working_set_bytes", labels, found.working_set)
                yield _sample("container_start_time_seconds", labels, began)
            if usages:
                total = _total(usages)
                yield _sample("pod_cpu_usage_seconds_total", mine, total.cpu_ns / 1e9)
                yield _sample("pod_memory_working_set_bytes", mine, total.working_set)

    # What the server asks for

    async def serve(self, params: Params, stream: Stream) -> None:
        """Answer with one text frame: the summary as JSON, or Prometheus' text."""
        if params.get("form") == "resource":
            text = self.resource_metrics()
        else:
            text = orjson.dumps(await self.summary()).decode()
        await stream.accept()
        await stream.send(text)


def _sample(family: str, labels: Mapping[str, str], value: float) -> tuple[str, str]:
    inside = ",".join(f'{name}="{text}"' for name, text in labels.items())
    return family, f"{family}{{{inside}}} {value:.15g}" if inside else f"{family} {value:.15g}"


def _total(usages: Iterable[Usage]) -> Usage:
    listed = list(usages)
    fields = Usage.__struct_fields__
    return Usage(**{name: sum(getattr(used, name) for used in listed) for name in fields})


def file_system(path: Path) -> Object:
    """What a file system has and has left, as a kubelet tells it."""
    space, nodes = shutil.disk_usage(path), os.statvfs(path)
    return {
        "availableBytes": space.free,
        "capacityBytes": space.total,
        "usedBytes": space.used,
        "inodesFree": nodes.f_favail,
        "inodes": nodes.f_files,
        "inodesUsed": nodes.f_files - nodes.f_ffree,
    }
