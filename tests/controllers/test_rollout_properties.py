"""Invariants of rolling updates, over random sizes, limits and fates of Pods."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.objects import Metadata
from sampan.controllers import rollout
from sampan.controllers.rollout import Bounds, Fleet
from sampan.controllers.views import Deployment, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus

AMOUNTS = st.one_of(st.integers(0, 6), st.integers(0, 100).map(lambda n: f"{n}%"))


def deployment(replicas: int, surge: int | str, missing: int | str) -> Deployment:
    rolling = {"maxSurge": surge, "maxUnavailable": missing}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return Deployment.of({"spec": {"replicas": replicas, "strategy": strategy}})


@dataclass
class Model:
    """A set's size and Pods, and how many of them are available: what a cluster may do to it."""

    name: str
    size: int
    pods: int
    available: int

    def view(self) -> ReplicaSet:
        return ReplicaSet(
            metadata=Metadata(name=self.name, uid=self.name),
            spec=ReplicaSetSpec(replicas=self.size),
            status=ReplicaSetStatus(replicas=self.pods, available_replicas=self.available),
        )

    def settle(self, luck: int) -> None:
        """Create Pods as asked at once, delete some, unavailable ones first; some become ready."""
        gone = min(max(self.pods - self.size, 0), luck)
        idle = self.pods - self.available
        self.pods = max(self.pods, self.size) - gone
        self.available -= max(gone - idle, 0)
        self.available = min(self.available + luck, self.pods)


def step(limits: Bounds, sets: list[Model]) -> bool:
    """Carry out one plan; tell whether it changed anything."""
    *old, new = (model.view() for model in sets)
    fleet = Fleet(new, old, limits)
    rollout.roll(fleet)
    before = [model.size for model in sets]
    for model in sets:
        model.size = fleet.sizes[model.name]
    return before != [model.size for model in sets]


@given(st.integers(0, 50), AMOUNTS, AMOUNTS)
def test_bounds_always_leave_room_to_move(
    replicas: int, surge: int | str, missing: int | str
) -> None:
    limits = rollout.bounds(deployment(replicas, surge, missing))
    assert 0 <= limits.floor <= replicas <= limits.ceiling
    assert replicas == 0 or limits.floor < limits.ceiling


@settings(max_examples=300)
@given(
    st.integers(0, 20),
    AMOUNTS,
    AMOUNTS,
    st.lists(st.integers(0, 20), min_size=1, max_size=4),
    st.lists(st.integers(0, 4), min_size=60, max_size=60),
)
def test_a_rollout_stays_within_its_bounds_and_ends(
    replicas: int, surge: int | str, missing: int | str, shares: list[int], luck: list[int]
) -> None:
    limits = rollout.bounds(deployment(replicas, surge, missing))
    sets = [Model(f"old{n}", 0, 0, 0) for n in range(len(shares))]
    for n in range(replicas):
        model = sets[(n * 7 + shares[n % len(shares)]) % len(sets)]
        model.size = model.pods = model.available = model.size + 1
    sets.append(Model("new", 0, 0, 0))
    for chance in luck:
        step(limits, sets)
        for model in sets:
            model.settle(chance)
        assert sum(model.pods for model in sets) <= limits.ceiling, "more than maxSurge extra"
        assert sum(model.available for model in sets) >= limits.floor, "below maxUnavailable"
    for _ in range(500):
        ready = sets[-1].available == replicas
        if not step(limits, sets) and ready:
            break
        for model in sets:
            model.settle(1)
    assert [model.size for model in sets] == [0] * len(shares) + [replicas]


def test_there_is_no_room_while_a_set_has_not_seen_its_last_order() -> None:
    limits = Bounds(desired=4, ceiling=5, floor=4)
    status = ReplicaSetStatus(replicas=2, available_replicas=2, observed_generation=1)
    for generation, room in ((1, 3), (2, 0)):
        old = ReplicaSet(
            metadata=Metadata(name="old", uid="old", generation=generation),
            spec=ReplicaSetSpec(replicas=2),
            status=status,
        )
        assert Fleet(None, [old], limits).room == room


@given(st.integers(1, 20), AMOUNTS, AMOUNTS)
def test_a_finished_rollout_plans_nothing(
    replicas: int, surge: int | str, missing: int | str
) -> None:
    limits = rollout.bounds(deployment(replicas, surge, missing))
    sets = [Model("old", 0, 0, 0), Model("new", replicas, replicas, replicas)]
    assert not step(limits, sets)


@given(st.integers(0, 5), st.integers(0, 60), st.lists(st.integers(1, 15), min_size=2, max_size=4))
def test_scaling_in_the_middle_of_a_rollout_shares_the_change_and_adds_up(
    missing: int, after: int, sizes: list[int]
) -> None:
    was = rollout.bounds(deployment(sum(sizes) + missing, "25%", "25%"))
    wanted = deployment(after, "25%", "25%")
    limits = rollout.bounds(wanted)
    notes = {rollout.DESIRED: str(was.desired), rollout.MAX: str(was.ceiling)}
    sets = [
        ReplicaSet(
            metadata=Metadata(name=f"s{n}", uid=f"s{n}", annotations=notes),
            spec=ReplicaSetSpec(replicas=size),
        )
        for n, size in enumerate(sizes)
    ]
    fleet = Fleet(sets[-1], sets[:-1], limits)
    rollout.rescale(fleet, wanted)
    assert all(size >= 0 for size in fleet.sizes.values())
    assert fleet.total == (limits.ceiling if after else 0)
