"""A Pod's whole life, played by chance: whatever happens, some things never do."""

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sampan.agent import plan as p
from sampan.agent.memory import Memory, Seen, count_end
from sampan.agent.plan import Situation, outcome, plan
from sampan.agent.runtime import State
from sampan.agent.spec import NodePod
from sampan.agent.status import pod_status
from tests.agent.situations import NOW, make_pod, running, sandbox

LIMIT = 200
STARTS = (p.RunSandbox, p.PullImage, p.CreateAndStart)


class World:
    """Carries plans out as a runtime would that never fails, and lets containers end."""

    def __init__(self, pod: NodePod) -> None:
        self.it = Situation(pod=pod, seen=Seen(), memory=Memory(started_at=NOW), now=NOW)
        self.starts: list[tuple[str, int]] = []

    def settle(self) -> timedelta | None:
        """Do all that is due; return when to look again."""
        for _ in range(LIMIT):
            steps = plan(self.it)
            due = [step for step in steps if not isinstance(step, p.CheckAgain)]
            for step in due:
                self._do(step)
                self._check()
            if not due:
                waits = [step.after for step in steps if isinstance(step, p.CheckAgain)]
                return min(waits, default=None)
        raise AssertionError(f"never settles: {plan(self.it)}")

    def _check(self) -> None:
        for container in self.it.pod.every_container:
            runs = [c for c in self.it.seen.attempts(container.name) if c.running]
            assert len(runs) <= 1, f"two of {container.name} run"
        inits = {c.name for c in self.it.pod.spec.init_containers}
        at_work = {c.name for c in self.it.seen.containers if c.running}
        assert not (at_work & inits and at_work - inits), "init containers and others run together"
        assert pod_status(self.it, "192.0.2.7")["phase"]

    def _do(self, step: p.Instruction) -> None:  # noqa: C901 - one case an instruction
        it = self.it
        seen, memory = it.seen, it.memory
        match step:
            case p.PrepareVolumes():
                memory = replace(memory, prepared=True)
            case p.RunSandbox(attempt):
                seen = seen.with_sandbox(sandbox(attempt))
            case p.StopSandbox(box):
                assert not any(c.running for c in seen.containers if c.sandbox == box)
                seen = seen.with_stopped(box)
            case p.RemoveSandbox(box):
                seen = seen.without_sandbox(box)
            case p.PullImage(name, attempt):
                memory = memory.with_container(name, replace(memory.of(name), image_for=attempt))
            case p.CreateAndStart(name, attempt):
                self.starts.append((name, attempt))
                working = seen.sandbox
                assert working is not None
                seen = seen.with_container(
                    running(name, attempt, box=working.id, started_at=it.now, created_at=it.now)
                )
                memory = memory.with_container(
                    name, replace(memory.of(name), next_attempt=attempt + 1)
                )
            case p.Stop(_, run, _, _):
                self.end(run, 0)
                return
            case p.Remove(run):
                seen = seen.without_container(run)
            case p.LetGo():
                assert not any(c.running for c in seen.containers)
                memory = replace(memory, let_go=True)
            case p.Forget():
                assert not memory.forgotten
                memory = replace(memory, forgotten=True)
        self.it = replace(it, seen=seen, memory=memory)

    def end(self, run: str, code: int) -> None:
        [found] = [c for c in self.it.seen.containers if c.id == run]
        over = replace(found, state=State.EXITED, exit_code=code, finished_at=self.it.now)
        memory = self.it.memory
        counted = count_end(memory.of(over.name), over)
        self.it = replace(
            self.it,
            seen=self.it.seen.with_container(over),
            memory=memory.with_container(over.name, counted),
        )

    def happen(self, what: str, number: int) -> None:
        live = [c for c in self.it.seen.containers if c.running]
        if what == "end" and live:
            self.end(live[number % len(live)].id, number % 3)
        elif what == "reboot" and self.it.seen.sandbox:
            box = self.it.seen.sandbox.id
            for run in live:
                self.end(run.id, 137)
            self.it = replace(self.it, seen=self.it.seen.with_stopped(box))
        elif what == "wait":
            self.it = replace(self.it, now=self.it.now + timedelta(seconds=number * 10))

    def delete(self) -> None:
        meta = replace(
            self.it.pod.metadata, deletion_timestamp=NOW, deletion_grace_period_seconds=1
        )
        self.it = replace(self.it, pod=replace(self.it.pod, metadata=meta))


def pods() -> st.SearchStrategy[NodePod]:
    def build(policy: str, mains: int, inits: int) -> NodePod:
        many: dict[str, Any] = {
            "initContainers": [{"name": f"i{n}", "image": "app"} for n in range(inits)]
        }
        return make_pod(*(f"m{n}" for n in range(mains)), restartPolicy=policy, **many)

    policies = st.sampled_from(["Always", "OnFailure", "Never"])
    return st.builds(build, policies, st.integers(1, 3), st.integers(0, 2))


happenings = st.lists(
    st.tuples(st.sampled_from(["end", "reboot", "wait"]), st.integers(0, 70)), max_size=25
)


@settings(deadline=None)
@given(pods(), happenings)
def test_no_container_runs_twice_and_every_pod_comes_to_rest(pod: NodePod, story: Any) -> None:
    world = World(pod)
    world.settle()
    for what, number in story:
        world.happen(what, number)
        world.settle()
    assert len(set(world.starts)) == len(world.starts), "a run's number was used twice"


@settings(deadline=None)
@given(pods(), happenings)
def test_a_deleted_pod_leaves_nothing(pod: NodePod, story: Any) -> None:
    world = World(pod)
    for what, number in story:
        world.settle()
        world.happen(what, number)
    world.delete()
    world.settle()
    assert world.it.memory.let_go
    world.it = replace(world.it, gone=True)
    world.settle()
    assert world.it.memory.forgotten
    assert world.it.seen == Seen()


@settings(deadline=None)
@given(pods(), happenings)
def test_a_pod_that_has_ended_stays_ended(pod: NodePod, story: Any) -> None:
    world = World(pod)
    result = None
    for what, number in story:
        world.settle()
        result = result or outcome(world.it)
        world.happen(what, number)
        if result:
            assert outcome(world.it) == result
            assert not any(isinstance(step, STARTS) for step in plan(world.it))
