"""Invariants of numbered Pods, over random sizes, strategies and fates of Pods."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.objects import Node, Pod
from sampan.client.cache import Cache, Interest
from sampan.controllers import statefulset
from sampan.controllers.plan import Create, Delete, World
from sampan.controllers.roster import INDEXES
from sampan.controllers.stateful_pods import ordinal
from sampan.controllers.views_apps import ControllerRevision, StatefulSet
from sampan.controllers.views_storage import Claim
from tests.controllers.memory_api import EPOCH, MemoryApi
from tests.controllers.stateful import a_pod, a_revision, a_set

Fates = st.lists(st.integers(0, 3), min_size=20, max_size=20)


@dataclass
class Fleet:
    """A set's Pods: what a cluster may do to them, and what a plan does."""

    sts: StatefulSet
    revisions: list[ControllerRevision]
    pods: dict[int, Pod] = field(default_factory=dict)

    def plan(self) -> list[Any]:
        views = (StatefulSet, ControllerRevision, Pod, Claim, Node)
        cache = Cache(
            MemoryApi(), [Interest(view, indexes=INDEXES.get(view, {})) for view in views]
        )
        for obj in (self.sts, *self.revisions, *self.pods.values()):
            cache._tables[type(obj)].put(obj.metadata.key, obj)
        return list(statefulset.reconcile(self.sts, World(cache, EPOCH)))

    def step(self) -> int:
        """Carry out one plan; return how many Pods it touched."""
        touched = 0
        for action in self.plan():
            if isinstance(action, Create):
                made = Pod.of(action.body)
                number = ordinal(self.sts, made)
                assert number is not None
                assert number not in self.pods, "two Pods of one name"
                revision = self.revision(made)
                self.pods[number] = a_pod(self.sts, number, revision, ready=False)
                touched += 1
            elif isinstance(action, Delete) and isinstance(action.obj, Pod):
                number = ordinal(self.sts, action.obj)
                assert number is not None
                revision = self.revision(action.obj)
                self.pods[number] = a_pod(self.sts, number, revision, deleting=True)
                touched += 1
        return touched

    def revision(self, pod: Pod) -> ControllerRevision:
        name = statefulset.revision_of(pod)
        return next(r for r in self.revisions if r.metadata.name == name)

    def settle(self, fate: int) -> None:
        """Let Pods that go be gone; then none, the first, or all others become ready."""
        for number in [n for n, pod in self.pods.items() if pod.metadata.deleting]:
            if fate:
                del self.pods[number]
        waiting = sorted(n for n, pod in self.pods.items() if not pod.ready)
        for number in waiting[: 0 if fate < 2 else 1 if fate == 2 else None]:
            self.pods[number] = a_pod(self.sts, number, self.revision(self.pods[number]))

    @property
    def down(self) -> set[int]:
        wanted = range(self.sts.spec.replicas)
        return {n for n in wanted if n not in self.pods or not up(self.pods[n])}


def up(pod: Pod) -> bool:
    return pod.live and pod.ready


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), Fates)
def test_in_order_a_pod_starts_only_after_all_before_it(
    before: int, replicas: int, fates: list[int]
) -> None:
    sts = a_set(replicas)
    fleet = Fleet(sts, [a_revision(sts)])
    fleet.pods = {n: a_pod(sts, n, fleet.revisions[0]) for n in range(before)}
    for fate in fates:
        had = dict(fleet.pods)
        assert fleet.step() <= 1
        for number in fleet.pods.keys() - had.keys():
            assert all(up(had[n]) for n in range(number)), "started out of order"
        fleet.settle(fate)
    for _ in range(30):
        fleet.step()
        fleet.settle(3)
    assert sorted(fleet.pods) == list(range(replicas))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 6),
    st.sampled_from(["OrderedReady", "Parallel"]),
    st.one_of(st.integers(1, 4), st.integers(1, 100).map(lambda n: f"{n}%")),
    st.integers(0, 6),
    st.sets(st.integers(0, 5)),
    Fates,
)
def test_a_rolling_update_takes_down_no_more_than_may_be_unavailable_and_ends(
    replicas: int,
    policy: str,
    missing: int | str,
    partition: int,
    broken: set[int],
    fates: list[int],
) -> None:
    rolling = {"maxUnavailable": missing, "partition": partition}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    old = a_set(replicas)
    status = {"currentRevision": a_revision(old).metadata.name}
    new = a_set(replicas, status=status, podManagementPolicy=policy, updateStrategy=strategy)
    new.spec.template["spec"]["containers"][0]["image"] = "v2"
    fleet = Fleet(new, [a_revision(old), a_revision(new, 2, "v2")])
    fleet.pods = {
        n: a_pod(old, n, fleet.revisions[0], ready=n not in broken) for n in range(replicas)
    }
    allowed = -(-int(missing[:-1]) * replicas // 100) if isinstance(missing, str) else missing
    for fate in fates:
        down = fleet.down
        fleet.step()
        assert len(fleet.down) <= max(len(down), allowed, 1), "more than maxUnavailable down"
        fleet.settle(fate)
    for _ in range(60):
        fleet.step()
        fleet.settle(3)
    assert fleet.step() == 0, "a finished rollout plans nothing"
    images = [statefulset.revision_of(fleet.pods[n]) for n in range(replicas)]
    names = [revision.metadata.name for revision in fleet.revisions]
    assert images == [names[n >= partition] for n in range(replicas)]
