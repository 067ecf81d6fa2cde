"""A Pod's status as the agent reports it: made from a situation, never kept.

The phase of a Pod that has ended is carried over from the status that the API has. Conditions
that others set are left to them: the patch merges ours into the list.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from sampan.agent.memory import ContainerMemory, restart_pause
from sampan.agent.plan import Situation, is_ready, is_started, outcome, past_deadline, restarts
from sampan.agent.runtime import Container
from sampan.agent.spec import ContainerSpec, NodePod
from sampan.api.objects import Object
from sampan.api.time import timestamp

ID_PREFIX: Final = "containerd://"


class _Verdict(Struct, frozen=True):
    status: str
    reason: str = ""
    message: str = ""


_TRUE: Final = _Verdict("True")


def pod_status(it: Situation, host_ip: str) -> Object:
    """Return the whole status object."""
    inits = [_container_status(it, c) for c in it.pod.spec.init_containers]
    mains = [_container_status(it, c) for c in it.pod.spec.containers]
    phase = _phase(it)
    status: Object = {
        "observedGeneration": it.pod.metadata.generation,
        "phase": phase,
        "conditions": _conditions(it, phase, inits, mains),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": timestamp(it.memory.started_at),
        "containerStatuses": mains,
        "qosClass": qos_class(it.pod),
        **_addresses(it, host_ip),
        **_reason(it),
    }
    if inits:
        status["initContainerStatuses"] = inits
    if guests := [_container_status(it, c) for c in it.pod.spec.ephemeral_containers]:
        status["ephemeralContainerStatuses"] = guests
    return status


def _addresses(it: Situation, host_ip: str) -> Object:
    newest = it.seen.newest
    ips = list(newest.ips) if newest else []
    if it.pod.spec.host_network and newest:
        ips = [host_ip]
    if not ips:
        kept = it.pod.status.get("podIPs")
        return {"podIP": kept[0]["ip"], "podIPs": kept} if kept else {}
    return {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}


def _reason(it: Situation) -> Object:
    if past_deadline(it) and not it.pod.finished:
        return {
            "reason": "DeadlineExceeded",
            "message": "Pod was active on the node longer than the specified deadline",
        }
    if it.memory.evicted and not it.pod.finished:
        return {"reason": "Evicted", "message": it.memory.evicted}
    return {key: it.pod.status[key] for key in ("reason", "message") if key in it.pod.status}


def _phase(it: Situation) -> str:
    if it.pod.finished:
        return str(it.pod.status["phase"])
    if ended := outcome(it):
        return ended
    runs = [it.seen.latest(c.name) for c in it.pod.spec.containers]
    if it.pod.metadata.deleting and runs and all(run is not None and run.ended for run in runs):
        return "Succeeded" if all(run and run.exit_code == 0 for run in runs) else "Failed"
    begun = [run for run in runs if run is not None and run.state in {"running", "exited"}]
    if len(begun) < len(runs):
        return "Running" if it.pod.status.get("phase") == "Running" else "Pending"
    return "Running"


# Containers


def _container_status(it: Situation, container: ContainerSpec) -> Object:
    memory = it.memory.of(container.name)
    runs = it.seen.attempts(container.name)
    run = runs[0] if runs else None
    if run is None and (kept := _kept(it, container)):
        return kept
    state, last = _states(it, container, memory, runs)
    init = container in it.pod.spec.init_containers and not container.sidecar
    done = init and run is not None and run.ended and run.exit_code == 0
    started = run is not None and is_started(container, memory, run)
    return {
        "name": container.name,
        "state": state,
        "lastState": last,
        "ready": done if init else run is not None and is_ready(container, memory, run),
        "restartCount": run.attempt if run else memory.next_attempt,
        "image": (run.image if run else "") or container.image,
        "imageID": run.image_ref if run else "",
        **({"containerID": ID_PREFIX + run.id} if run else {}),
        "started": started,
        **_granted(it, container, run),
    }


def _granted(it: Situation, container: ContainerSpec, run: Container | None) -> Object:
    """What the container has of CPU and memory now."""
    if run is None or not run.running or it.pod.is_ephemeral(container):
        return {}
    text = it.memory.of(container.name).resized.get(run.id, run.resources_asked)
    granted = {key: group for key, group in json.loads(text or "{}").items() if group}
    if not granted:
        return {}
    more = {"allocatedResources": granted["requests"]} if "requests" in granted else {}
    return {"resources": granted, **more}


def _kept(it: Situation, container: ContainerSpec) -> Object | None:
    """Of a Pod that has ended, what the API has is all that is known once the runtime forgot it."""
    ended = it.pod.finished or it.pod.metadata.deleting
    if not ended and not it.pod.is_ephemeral(container):
        return None
    init = container in it.pod.spec.init_containers
    group = "initContainerStatuses" if init else "containerStatuses"
    if it.pod.is_ephemeral(container):
        group = "ephemeralContainerStatuses"
    entries = it.pod.status.get(group) or ()
    found = next((entry for entry in entries if entry["name"] == container.name), None)
    if found and not ended and "containerID" not in found:
        return None
    if found is None or "running" not in (found.get("state") or {}):
        return found
    end = {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
    }
    return {**found, "state": {"terminated": end}, "ready": False, "started": False}


def _states(
    it: Situation, container: ContainerSpec, memory: ContainerMemory, runs: list[Container]
) -> tuple[Object, Object]:
    """The container's `state` and `lastState`."""
    if not runs:
        return {"waiting": _waiting(it, container, memory)}, memory.last
    run = runs[0]
    last = _terminated(runs[1]) if len(runs) > 1 and runs[1].ended else memory.last
    if run.running:
        return {"running": {"startedAt": _time(run.started_at)}}, last
    if not run.ended:
        return {"waiting": _waiting(it, container, memory)}, last
    if waiting := _waits_to_restart(it, container, memory, run):
        return {"waiting": waiting}, _terminated(run)
    return _terminated(run), last


def _waits_to_restart(
    it: Situation, container: ContainerSpec, memory: ContainerMemory, run: Container
) -> Object | None:
    if it.pod.metadata.deleting or outcome(it) or not _restarts(it, container, run):
        return None
    pause = restart_pause(memory.crashes)
    if memory.waiting and (memory.retry_at or memory.pulling or not pause):
        return _as_waiting(memory.waiting.reason, memory.waiting.message)
    if not pause:
        return None
    where = f"container={container.name} pod={it.pod.described()}"
    text = f"back-off {_duration(int(pause.total_seconds()))} restarting failed {where}"
    return _as_waiting("CrashLoopBackOff", text)


def _restarts(it: Situation, container: ContainerSpec, run: Container) -> bool:
    if container in it.pod.spec.init_containers and not container.sidecar:
        return run.exit_code != 0 and it.pod.spec.restart_policy != "Never"
    return restarts(it.pod, container, run)


def _duration(seconds: int) -> str:
    """As Go writes it: `10s`, `1m20s`, `5m0s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _waiting(it: Situation, container: ContainerSpec, memory: ContainerMemory) -> Object:
    if memory.waiting:
        return _as_waiting(memory.waiting.reason, memory.waiting.message)
    if it.memory.waiting:
        return _as_waiting(it.memory.waiting.reason, it.memory.waiting.message)
    if it.awaited:
        return _as_waiting("WaitingForServices", it.awaited)
    main = container in it.pod.spec.containers
    reason = "PodInitializing" if main and it.pod.spec.init_containers else "ContainerCreating"
    return _as_waiting(reason)


def _as_waiting(reason: str, message: str = "") -> Object:
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _terminated(run: Container) -> Object:
    end: Object = {
        "exitCode": run.exit_code,
        "reason": run.reason or ("Completed" if run.exit_code == 0 else "Error"),
        "startedAt": _time(run.started_at or run.created_at),
        "finishedAt": _time(run.finished_at or run.created_at),
        "containerID": ID_PREFIX + run.id,
    }
    if run.message:
        end["message"] = run.message
    return {"terminated": end}


def _time(at: datetime | None) -> str | None:
    return timestamp(at) if at else None


# Conditions


def _conditions(
    it: Situation, phase: str, inits: list[Object], mains: list[Object]
) -> list[Object]:
    old = {c["type"]: c for c in it.pod.status.get("conditions") or ()}
    serving = [*(s for s, c in zip(inits, it.pod.spec.init_containers, strict=True) if c.sidecar)]
    ready = _containers_ready(phase, [*serving, *mains])
    wanted = {
        "PodReadyToStartContainers": _Verdict("True" if it.seen.sandbox else "False"),
        "Initialized": _initialized(it, phase, inits, mains),
        "Ready": _ready(it, ready, old),
        "ContainersReady": ready,
        "PodScheduled": _TRUE,
    }
    if it.memory.evicted:
        wanted["DisruptionTarget"] = _Verdict("True", "TerminationByKubelet", it.memory.evicted)
    generation = it.pod.metadata.generation
    return [_condition(old.get(t), t, verdict, it.now, generation) for t, verdict in wanted.items()]


def _condition(
    old: Object | None, type_: str, verdict: _Verdict, now: datetime, generation: int
) -> Object:
    same = old is not None and old.get("status") == verdict.status
    since = old["lastTransitionTime"] if old and same else timestamp(now)
    made: Object = {
        "type": type_,
        "status": verdict.status,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }
    if verdict.reason:
        made["reason"] = verdict.reason
    if verdict.message:
        made["message"] = verdict.message
    return made


def _initialized(it: Situation, phase: str, inits: list[Object], mains: list[Object]) -> _Verdict:
    if phase == "Succeeded":
        return _Verdict("True", "PodCompleted")
    if any("containerID" in status for status in mains):
        return _TRUE
    missing = [
        status["name"]
        for status, container in zip(inits, it.pod.spec.init_containers, strict=True)
        if not status["started" if container.sidecar else "ready"]
    ]
    if not missing:
        return _TRUE
    text = f"containers with incomplete status: [{' '.join(missing)}]"
    return _Verdict("False", "ContainersNotInitialized", text)


def _containers_ready(phase: str, statuses: Iterable[Object]) -> _Verdict:
    if phase == "Succeeded":
        return _Verdict("False", "PodCompleted")
    if phase == "Failed":
        return _Verdict("False", "PodFailed")
    unready = [status["name"] for status in statuses if not status["ready"]]
    if not unready:
        return _TRUE
    text = f"containers with unready status: [{' '.join(unready)}]"
    return _Verdict("False", "ContainersNotReady", text)


def _ready(it: Situation, containers: _Verdict, old: Mapping[str, Object]) -> _Verdict:
    if containers.status != "True":
        return containers
    closed = [
        f'the status of pod readiness gate "{gate.condition_type}" is not "True", '
        f"but {(old.get(gate.condition_type) or {}).get('status', 'Unknown')}"
        for gate in it.pod.spec.readiness_gates
        if (old.get(gate.condition_type) or {}).get("status") != "True"
    ]
    if not closed:
        return _TRUE
    return _Verdict("False", "ReadinessGatesNotReady", "; ".join(closed))


def qos_class(pod: NodePod) -> str:
    """Guaranteed, Burstable or BestEffort, by the rules of the Kubernetes documentation."""
    if known := pod.status.get("qosClass"):
        return str(known)
    amounts = [(c.resources.requests, c.resources.limits) for c in pod.own_containers]
    counted = ("cpu", "memory")
    if not any(key in amount for pair in amounts for amount in pair for key in counted):
        return "BestEffort"
    full = all(
        key in limits and requests.get(key, limits[key]) == limits[key]
        for requests, limits in amounts
        for key in counted
    )
    return "Guaranteed" if full else "Burstable"


def status_patch(known: Object, wanted: Object) -> Object | None:
    """Return the strategic merge patch from *known* to *wanted*; None if there is no difference."""
    changes = {
        key: value
        for key, value in wanted.items()
        if key != "conditions" and _differ(known.get(key), value)
    }
    if "podIPs" in changes and known.get("podIPs"):
        changes["podIPs"] = [*changes["podIPs"], {"$patch": "replace"}]
    if conditions := _condition_changes(known.get("conditions") or (), wanted["conditions"]):
        changes["conditions"] = conditions
    return changes or None


def _condition_changes(known: Iterable[Object], wanted: Iterable[Object]) -> list[Object]:
    old = {condition["type"]: condition for condition in known}
    changed = []
    for condition in wanted:
        before = old.get(condition["type"]) or {}
        if any(before.get(key) != value for key, value in condition.items()) or any(
            before.get(key) and key not in condition for key in ("reason", "message")
        ):
            dropped = dict.fromkeys({"reason", "message"} & (before.keys() - condition.keys()))
            changed.append({**condition, **dropped})
    return changed


def _differ(known: Any, wanted: Any) -> bool:
    """Whether two values say different things; a server may leave out nulls and empty values."""
    return bool(known != wanted and _pruned(known) != _pruned(wanted))


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        pruned = {key: _pruned(inner) for key, inner in value.items()}
        return {key: inner for key, inner in pruned.items() if inner not in (None, {}, [])}
    if isinstance(value, list):
        return [_pruned(inner) for inner in value]
    return value
