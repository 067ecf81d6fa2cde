"""Requests and limits in the kernel's terms.

Sources: the CPU and memory arithmetic of Kubernetes' documentation ("Configure Quality of Service
for Pods", "Node-pressure Eviction": oom_score_adj; CFS period and quota, CPU shares).
"""

import json
import os
from decimal import ROUND_CEILING
from pathlib import Path
from typing import Final

from msgspec import Struct

from sampan.agent.runtime import Limits
from sampan.agent.spec import ContainerSpec
from sampan.api.quantities import milli, parse, whole

PERIOD: Final = 100_000
LEAST_QUOTA: Final = 1000
LEAST_SHARES: Final = 2
_RESIZED: Final = ("cpu", "memory")
_ADJUST: Final = {"Guaranteed": -997, "BestEffort": 1000}


class Capacity(Struct, frozen=True):
    """What the node has: CPUs and bytes of memory."""

    cpus: int
    memory: int


def node_capacity() -> Capacity:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(line.split()[1] for line in lines if line.startswith("MemTotal:"))
    return Capacity(os.cpu_count() or 1, int(total) * 1024)


def limits(container: ContainerSpec, qos: str, node_memory: int) -> Limits:
    requests, most = container.resources.requests, container.resources.limits
    cpu = requests.get("cpu", most.get("cpu", 0))
    quota = milli(most["cpu"]) * PERIOD // 1000 if "cpu" in most else 0
    return Limits(
        cpu_period=PERIOD,
        cpu_quota=max(quota, LEAST_QUOTA) if quota else 0,
        cpu_shares=max(milli(cpu) * 1024 // 1000, LEAST_SHARES),
        memory_limit_in_bytes=whole(most["memory"]) if "memory" in most else 0,
        oom_score_adj=oom_score(container, qos, node_memory),
    )


def asked(container: ContainerSpec) -> str:
    """What of CPU and memory a container asks for, such that a difference means a resize."""
    groups = {"requests": container.resources.requests, "limits": container.resources.limits}
    kept = {
        name: {key: str(amount) for key, amount in group.items() if key in _RESIZED}
        for name, group in groups.items()
    }
    return json.dumps(kept, sort_keys=True)


def changed(before: str, container: ContainerSpec) -> set[str]:
    """Return the resources whose amounts differ from what *before* says."""
    old, new = json.loads(before), json.loads(asked(container))
    return {
        key
        for group in ("requests", "limits")
        for key in _RESIZED
        if old.get(group, {}).get(key) != new[group].get(key)
    }


def oom_score(container: ContainerSpec, qos: str, node_memory: int) -> int:
    """Who dies first when the node has no memory left: who asked for the smallest share of it."""
    if qos in _ADJUST:
        return _ADJUST[qos]
    asked = container.resources.requests.get("memory", 0)
    return max(3, min(1000 - 1000 * whole(asked) // max(node_memory, 1), 999))


def container_resource(
    container: ContainerSpec, resource: str, divisor: str, node: Capacity
) -> str:
    """Answer a resourceFieldRef; raise LookupError for a resource that there is not.

    A container without a limit may use the whole node, so the node's capacity is its limit.
    """
    group, _, name = resource.partition(".")
    defaults = {"cpu": node.cpus, "memory": node.memory}
    if group == "limits" and name in {"cpu", "memory", "ephemeral-storage"}:
        amount = container.resources.limits.get(name, defaults.get(name, 0))
    elif group == "requests" and name in {"cpu", "memory", "ephemeral-storage"}:
        amount = container.resources.requests.get(name, 0)
    else:
        raise LookupError(f"resource {resource!r} is not one that a container can read")
    unit = parse(divisor)
    share = parse(amount) / (unit or 1)
    return str(int(share.to_integral_value(ROUND_CEILING)))
