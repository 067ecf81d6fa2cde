"""What to do next about one Pod: its spec and what is known of it in, instructions out.

A plan is made again after every instruction's effect is known, so it says only what may be done
now. On a Pod that is as it should be it is empty; a plan that waits for a time says `CheckAgain`.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from sampan.agent.memory import ContainerMemory, Memory, Seen, restart_pause
from sampan.agent.resources import changed
from sampan.agent.runtime import Container, Sandbox, State
from sampan.agent.spec import ContainerSpec, NodePod

DRAINED_WITHIN: Final = timedelta(seconds=5)
"""How long a Pod on its way out waits, at most, until nodes stop sending and clients are served."""
SETTLED_AFTER: Final = timedelta(seconds=0.1)
"""How much longer, for what is on its way."""
LEAST_GRACE: Final = 1
"""Seconds that a container gets even when its Pod was deleted by force."""


class PrepareVolumes(Struct, frozen=True):
    pass


class RunSandbox(Struct, frozen=True):
    attempt: int


class StopSandbox(Struct, frozen=True):
    sandbox: str


class RemoveSandbox(Struct, frozen=True):
    sandbox: str


class PullImage(Struct, frozen=True):
    container: str
    attempt: int


class CreateAndStart(Struct, frozen=True):
    container: str
    attempt: int


class Stop(Struct, frozen=True):
    container: str
    id: str
    grace: int
    why: str


class Resize(Struct, frozen=True):
    """Grant a running container what its spec asks for now."""

    container: str
    id: str


class Remove(Struct, frozen=True):
    id: str


class LetGo(Struct, frozen=True):
    """Tell the API that nothing of the Pod runs any more, so that the object may go."""


class Forget(Struct, frozen=True):
    """Remove what the node still holds of the Pod: volumes, logs, what is remembered."""


class CheckAgain(Struct, frozen=True):
    after: timedelta


Instruction = (
    PrepareVolumes | RunSandbox | StopSandbox | RemoveSandbox | PullImage | CreateAndStart
    | Stop | Resize | Remove | LetGo | Forget | CheckAgain
)  # fmt: skip
Plan = tuple[Instruction, ...]
Outcome = Literal["Succeeded", "Failed"]


class Situation(Struct, frozen=True, kw_only=True):
    """A snapshot. *gone* means that the API has no such Pod any more."""

    pod: NodePod
    seen: Seen
    memory: Memory
    now: datetime
    gone: bool = False
    awaited: str = ""
    """What the Pod's first start waits for, in words."""
    served: bool = False
    """Whether some node still sends a Service's traffic to it."""


def plan(it: Situation) -> Plan:
    if it.gone or it.pod.metadata.deleting:
        return _end(it)
    if outcome(it):
        return _finish(it)
    return (*_run(it), *_deadline_check(it))


# The end


def _end(it: Situation) -> Plan:
    """Stop, let the API go on as soon as the address is free, then clean up."""
    if _alive(it):
        wait = _undrained(it)
        return (CheckAgain(wait),) if wait > timedelta() else _stop_all(it, "Stopping container")
    if ready := [s for s in it.seen.sandboxes if s.ready]:
        return tuple(StopSandbox(s.id) for s in ready)
    if not it.gone and not it.memory.let_go:
        return (LetGo(),)
    if it.seen.sandboxes:
        return tuple(RemoveSandbox(s.id) for s in it.seen.sandboxes)
    return (Forget(),) if it.gone and not it.memory.forgotten else ()


def _undrained(it: Situation) -> timedelta:
    """How much longer connections may still come, which a stop now would break."""
    begun, drained = it.memory.ending_at, it.memory.drained_at
    if it.gone or begun is None or _pod_grace(it) <= LEAST_GRACE:
        return timedelta()
    if it.served:
        return begun + min(DRAINED_WITHIN, timedelta(seconds=_pod_grace(it))) - it.now
    return drained + SETTLED_AFTER - it.now if drained else timedelta()


def _finish(it: Situation) -> Plan:
    """Give back the address of a Pod that has ended; its containers stay, for their logs."""
    if stops := _stop_all(it, "Stopping container"):
        return stops
    if _alive(it):
        return ()
    return tuple(StopSandbox(s.id) for s in it.seen.sandboxes if s.ready)


def _alive(it: Situation) -> bool:
    return any(c.running for c in it.seen.containers)


def _stop_all(it: Situation, why: str) -> Plan:
    """Stop what runs: the containers proper first, then the sidecars, the last one first."""
    grace = _pod_grace(it)
    main = {c.name for c in it.pod.spec.containers}
    sidecars = [c.name for c in it.pod.spec.init_containers if c.sidecar]
    running = [c for c in it.seen.containers if c.running]
    first = [c for c in running if c.name in main or c.name not in sidecars]
    if not first and running:
        first = [max(running, key=lambda c: sidecars.index(c.name))]
    return tuple(
        Stop(c.name, c.id, grace, f"{why} {c.name}")
        for c in first
        if it.memory.of(c.name).stopping.get(c.id, grace + 1) > grace
    )


def _pod_grace(it: Situation) -> int:
    asked = it.pod.metadata.deletion_grace_period_seconds
    if it.memory.evicted or (it.gone and asked is None):
        return LEAST_GRACE
    return max(
        asked if asked is not None else it.pod.spec.termination_grace_period_seconds, LEAST_GRACE
    )


def outcome(it: Situation) -> Outcome | None:
    """Say how the Pod has ended for good, or None while it has not."""
    if it.pod.finished:
        return "Succeeded" if it.pod.status.get("phase") == "Succeeded" else "Failed"
    if past_deadline(it) or it.memory.evicted or _init_failed(it):
        return "Failed"
    ends = [_end_of(it, c) for c in it.pod.spec.containers]
    if not ends or None in ends:
        return None
    return "Succeeded" if all(code == 0 for code in ends) else "Failed"


def past_deadline(it: Situation) -> bool:
    limit = it.pod.spec.active_deadline_seconds
    return limit is not None and it.now >= it.memory.started_at + timedelta(seconds=limit)


def _init_failed(it: Situation) -> bool:
    if it.pod.spec.restart_policy != "Never" or _initialized(it):
        return False
    runs = (it.seen.latest(c.name) for c in it.pod.spec.init_containers if not c.sidecar)
    return any(run is not None and run.ended and run.exit_code != 0 for run in runs)


def _end_of(it: Situation, container: ContainerSpec) -> int | None:
    """The exit code of a container that will not be started again."""
    run = it.seen.latest(container.name)
    if run is None or not run.ended or restarts(it.pod, container, run):
        return None
    return run.exit_code


def restarts(pod: NodePod, container: ContainerSpec, run: Container) -> bool:
    """Whether a run that has ended is to be followed by another."""
    if pod.is_ephemeral(container):
        return False
    if any(rule.restarts(run.exit_code) for rule in container.restart_policy_rules):
        return True
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and run.exit_code != 0)


def _deadline_check(it: Situation) -> Plan:
    limit = it.pod.spec.active_deadline_seconds
    if limit is None:
        return ()
    return (CheckAgain(it.memory.started_at + timedelta(seconds=limit) - it.now),)


# Running


def _run(it: Situation) -> Plan:
    if it.memory.retry_at and it.now < it.memory.retry_at:
        return (CheckAgain(it.memory.retry_at - it.now),)
    if not it.memory.prepared:
        return (PrepareVolumes(),)
    sandbox = it.seen.sandbox
    if sandbox is None:
        return _new_sandbox(it)
    old = [s for s in it.seen.sandboxes if s.id != sandbox.id]
    cleanup: Plan = (
        *(StopSandbox(s.id) for s in old if s.ready),
        *(RemoveSandbox(s.id) for s in old),
    )
    if it.awaited and not _begun(it, sandbox):
        return cleanup
    return (*cleanup, *_leftovers(it, sandbox), *_containers(it, sandbox))


def _new_sandbox(it: Situation) -> Plan:
    """Make a sandbox; what ran in one that broke is stopped first, it has no network any more."""
    if stops := _stop_all(it, "Pod sandbox changed, it will be killed and re-created:"):
        return stops
    if _alive(it):
        return ()
    newest = it.seen.newest
    return (RunSandbox(newest.attempt + 1 if newest else 0),)


def _begun(it: Situation, sandbox: Sandbox) -> bool:
    return any(c.sandbox == sandbox.id for c in it.seen.containers)


def _leftovers(it: Situation, sandbox: Sandbox) -> Iterator[Instruction]:
    """Of each container keep the latest run and the one before, which has the previous logs."""
    for container in it.pod.every_container:
        for run in it.seen.attempts(container.name)[2:]:
            if not run.running and run.sandbox == sandbox.id:
                yield Remove(run.id)


def _containers(it: Situation, sandbox: Sandbox) -> Iterator[Instruction]:
    if not _initialized(it, sandbox):
        for container in it.pod.spec.init_containers:
            yield from _attend(it, sandbox, container)
            if not init_done(it, container, sandbox):
                return
    else:
        for container in it.pod.spec.init_containers:
            if container.sidecar:
                yield from _attend(it, sandbox, container)
    for container in it.pod.spec.containers:
        yield from _attend(it, sandbox, container)
    for container in it.pod.spec.ephemeral_containers:
        known = it.seen.latest(container.name)
        if known or it.memory.of(container.name).next_attempt == 0:  # it runs once in its life
            yield from _attend(it, sandbox, container)


def _initialized(it: Situation, sandbox: Sandbox | None = None) -> bool:
    """Whether a container proper has been made (in *sandbox*), so initialization is over."""
    names = {c.name for c in it.pod.spec.containers}
    return any(
        c.name in names and (sandbox is None or c.sandbox == sandbox.id) for c in it.seen.containers
    )


def init_done(it: Situation, container: ContainerSpec, sandbox: Sandbox) -> bool:
    """Whether the next init container may start."""
    run = _run_in(it, sandbox, container.name)
    if run is None:
        return False
    if container.sidecar:
        return run.running and is_started(container, it.memory.of(container.name), run)
    return run.ended and run.exit_code == 0


def is_started(container: ContainerSpec, memory: ContainerMemory, run: Container) -> bool:
    if not run.running:
        return False
    return container.startup_probe is None or (memory.probed == run.id and memory.started)


def is_ready(container: ContainerSpec, memory: ContainerMemory, run: Container) -> bool:
    if not is_started(container, memory, run):
        return False
    return container.readiness_probe is None or (memory.probed == run.id and memory.ready)


def _run_in(it: Situation, sandbox: Sandbox, name: str) -> Container | None:
    run = it.seen.latest(name)
    return run if run and run.sandbox == sandbox.id else None


def _attend(it: Situation, sandbox: Sandbox, container: ContainerSpec) -> Iterator[Instruction]:
    """Do for one container what is due now."""
    memory = it.memory.of(container.name)
    latest = it.seen.latest(container.name)
    attempt = max(latest.attempt + 1 if latest else 0, memory.next_attempt)
    run = _run_in(it, sandbox, container.name)
    if run is None:
        yield from _start(it, container, attempt)
    elif run.running:
        yield from _keep(it, container, run)
    elif run.state in {State.CREATED, State.UNKNOWN}:
        yield Remove(run.id)  # its start failed, or was cut short by a crash of ours
    elif _due_again(it, container, run):
        due = (run.finished_at or it.now) + restart_pause(memory.crashes)
        if container.image != run.image_asked or _resized_since(container, run):
            due = it.now
        if it.now < due:
            yield CheckAgain(due - it.now)
        else:
            yield from _start(it, container, attempt)


def _resized_since(container: ContainerSpec, run: Container) -> bool:
    return bool(run.resources_asked and changed(run.resources_asked, container))


def _due_again(it: Situation, container: ContainerSpec, run: Container) -> bool:
    init = container in it.pod.spec.init_containers and not container.sidecar
    if init:
        return run.exit_code != 0 and it.pod.spec.restart_policy != "Never"
    return restarts(it.pod, container, run)


def _keep(it: Situation, container: ContainerSpec, run: Container) -> Iterator[Instruction]:
    memory = it.memory.of(container.name)
    if run.id in memory.stopping:
        return
    grace = it.pod.spec.termination_grace_period_seconds
    if run.image_asked and run.image_asked != container.image:
        why = f"Container {container.name} definition changed, will be restarted"
        yield Stop(container.name, run.id, grace, why)
    elif memory.unhealthy and memory.probed == run.id:
        least = memory.grace if memory.grace is not None else grace
        why = f"Container {container.name} {memory.unhealthy}, will be restarted"
        yield Stop(container.name, run.id, max(least, LEAST_GRACE), why)
    else:
        yield from _resize(it, container, run)


def _resize(it: Situation, container: ContainerSpec, run: Container) -> Iterator[Instruction]:
    granted = it.memory.of(container.name).resized.get(run.id, run.resources_asked)
    if not granted or it.pod.is_ephemeral(container):
        return
    differing = changed(granted, container)
    restarting = {
        p.resource_name for p in container.resize_policy if p.restart_policy == "RestartContainer"
    }
    if differing & restarting:
        grace = it.pod.spec.termination_grace_period_seconds
        why = f"Container {container.name} resize requires restart, will be restarted"
        yield Stop(container.name, run.id, grace, why)
    elif differing:
        yield Resize(container.name, run.id)


def _start(it: Situation, container: ContainerSpec, attempt: int) -> Iterator[Instruction]:
    memory = it.memory.of(container.name)
    if memory.pulling:
        return
    if memory.retry_at and it.now < memory.retry_at:
        yield CheckAgain(memory.retry_at - it.now)
    elif memory.image_for != attempt:
        yield PullImage(container.name, attempt)
    else:
        yield CreateAndStart(container.name, attempt)
