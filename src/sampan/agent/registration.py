"""What a node says of itself as a Node object, and which patch makes the object say it. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from sampan import KUBERNETES_VERSION, __version__
from sampan.agent.config import AgentConfig
from sampan.agent.machine import Headroom, Machine
from sampan.api.marks import VOLUMES_DIR
from sampan.api.objects import Object
from sampan.api.time import timestamp

VERSION: Final = f"v{KUBERNETES_VERSION}-sampan.{__version__}"
READY: Final = "Ready"
MEMORY_RESERVE: Final = 100 << 20
_DISK_RESERVE: Final = 2 << 30
PIDS_RESERVE: Final = 1000
_WORDS: Final = {
    "Memory": ("SufficientMemory", "InsufficientMemory"),
    "Disk": ("NoDiskPressure", "DiskPressure"),
    "PID": ("SufficientPID", "InsufficientPID"),
}
_NOUNS: Final = {"Memory": "memory", "Disk": "disk space", "PID": "process ids"}
_MOST_IMAGES: Final = 50
"""As many as a kubelet reports, the largest first."""


class Image(Struct, frozen=True):
    names: tuple[str, ...]
    size: int


class Report(Struct, frozen=True, kw_only=True):
    """All that the agent knows of its node at one moment."""

    machine: Machine
    headroom: Headroom
    runtime: str
    """Such as containerd://1.6.20; empty until it has answered."""
    images: Sequence[Image]
    problem: str | None
    """Why the node is not ready, "" if it is, None while that is not known yet."""


def new_node(config: AgentConfig, report: Report, now: datetime) -> Object:
    """Make the Node as it is first created."""
    node: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node_name,
            "labels": _labels(config, report.machine),
            "annotations": _annotations(config),
        },
    }
    node["status"] = status_patch(config, node, report, now)
    return node


def label_patch(config: AgentConfig, node: Object, report: Report) -> Object | None:
    """Return what brings the Node's labels and annotations up to date; others' are left alone."""
    wanted = {"labels": _labels(config, report.machine), "annotations": _annotations(config)}
    missing = {}
    for field, values in wanted.items():
        have = node["metadata"].get(field) or {}
        if differing := {key: value for key, value in values.items() if have.get(key) != value}:
            missing[field] = differing
    return {"metadata": missing} if missing else None


def status_patch(config: AgentConfig, node: Object, report: Report, now: datetime) -> Object | None:
    """Return the part of the status that differs, for a strategic merge; None if none does."""
    have = node.get("status") or {}
    wanted = _facts(config, report)
    patch = {key: value for key, value in wanted.items() if not _contains(have.get(key), value)}
    if conditions := _changed_conditions(have.get("conditions") or (), report, now):
        patch["conditions"] = conditions
    return patch or None


def _labels(config: AgentConfig, machine: Machine) -> dict[str, str]:
    return {
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        **config.labels,
    }


def _annotations(config: AgentConfig) -> dict[str, str]:
    return {VOLUMES_DIR: str(config.claims_dir)}


def _facts(config: AgentConfig, report: Report) -> Object:
    machine = report.machine
    facts: Object = {
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip},
            {"type": "Hostname", "address": config.node_name},
        ],
        "capacity": _amounts(config, machine, machine.memory, machine.disk),
        "allocatable": _amounts(
            config, machine, machine.memory - MEMORY_RESERVE, machine.disk - disk_reserve(machine)
        ),
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": report.runtime,
            "kubeletVersion": VERSION,
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
    }
    if report.images:
        largest = sorted(report.images, key=lambda image: (-image.size, image.names))
        facts["images"] = [
            {"names": list(image.names), "sizeBytes": image.size}
            for image in largest[:_MOST_IMAGES]
        ]
    return facts


def _amounts(config: AgentConfig, machine: Machine, memory: int, disk: int) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "memory": f"{memory >> 10}Ki",
        "ephemeral-storage": f"{disk >> 10}Ki",
        "pods": str(config.max_pods),
    }


def disk_reserve(machine: Machine) -> int:
    return min(_DISK_RESERVE, machine.disk // 10)


def _contains(have: Any, wanted: Any) -> bool:
    """Whether a merge of *wanted* into *have* would change nothing."""
    if isinstance(wanted, Mapping) and isinstance(have, Mapping):
        return all(have.get(key) == value for key, value in wanted.items())
    return bool(have == wanted)


def _changed_conditions(have: Sequence[Object], report: Report, now: datetime) -> Sequence[Object]:
    """Return the conditions that say something new; their times change only then."""
    known = {condition["type"]: condition for condition in have}
    moment = timestamp(now)
    changed = []
    for wanted in _conditions(report):
        old = known.get(wanted["type"], {})
        if wanted["type"] == READY and report.problem is None and old:
            continue  # we have only just started: what was said last holds until we know better
        if all(old.get(key) == value for key, value in wanted.items()):
            continue
        same = old.get("status") == wanted["status"]
        since = old.get("lastTransitionTime", moment) if same else moment
        changed.append({**wanted, "lastHeartbeatTime": moment, "lastTransitionTime": since})
    return changed


def _conditions(report: Report) -> Sequence[Object]:
    left = report.headroom
    return (
        _pressure("Memory", pressing=left.memory < MEMORY_RESERVE),
        _pressure("Disk", pressing=left.disk < disk_reserve(report.machine)),
        _pressure("PID", pressing=left.pids < PIDS_RESERVE),
        _readiness("starting" if report.problem is None else report.problem),
    )


def _pressure(what: str, *, pressing: bool) -> Object:
    """Word it as a kubelet does, for the tools that know its words."""
    enough, too_little = _WORDS[what]
    return {
        "type": f"{what}Pressure",
        "status": "True" if pressing else "False",
        "reason": f"KubeletHas{too_little if pressing else enough}",
        "message": f"the node has {'too little' if pressing else 'enough'} {_NOUNS[what]}",
    }


def _readiness(problem: str) -> Object:
    return {
        "type": READY,
        "status": "False" if problem else "True",
        "reason": "KubeletNotReady" if problem else "KubeletReady",
        "message": problem or "the node is ready for Pods",
    }
