"""Invariants of DaemonSets, over random nodes, limits and fates of Pods."""

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.objects import Node, Pod
from sampan.client.cache import Cache, Interest
from sampan.controllers import daemonset
from sampan.controllers.daemon_nodes import target
from sampan.controllers.history import HASH
from sampan.controllers.plan import Create, Delete, World
from sampan.controllers.roster import INDEXES
from sampan.controllers.views_apps import ControllerRevision, DaemonSet
from tests.controllers.daemons import a_node, a_pod, a_revision, a_set, rolling
from tests.controllers.memory_api import EPOCH, MemoryApi

VERSIONS = {image: a_set(image) for image in ("v1", "v2")}
REVISIONS = [a_revision(version, number) for number, version in enumerate(VERSIONS.values(), 1)]
VIEWS = (DaemonSet, ControllerRevision, Pod, Node)
Fates = st.lists(st.integers(0, 3), min_size=15, max_size=15)


@dataclass(frozen=True)
class Member:
    name: str
    node: str
    image: str
    ready: bool = False
    going: bool = False


@dataclass
class Fleet:
    """A set's Pods, which a plan may change, and which come up and go as fate says."""

    ds: DaemonSet
    nodes: list[Node]
    members: dict[str, Member] = field(default_factory=dict)
    made: int = 0

    def plan(self) -> list[Any]:
        pods = [
            a_pod(VERSIONS[m.image], m.name, m.node, ready=m.ready, deleting=m.going)
            for m in self.members.values()
        ]
        cache = Cache(MemoryApi(), [Interest(v, indexes=INDEXES.get(v, {})) for v in VIEWS])
        for obj in (self.ds, *REVISIONS, *self.nodes, *pods):
            cache._tables[type(obj)].put(obj.metadata.key, obj)
        return list(daemonset.reconcile(self.ds, World(cache, EPOCH)))

    def step(self) -> int:
        """Carry out one plan; return how many Pods it touched."""
        touched = 0
        present = a_revision(self.ds).metadata.labels[HASH]
        for action in self.plan():
            if isinstance(action, Create):
                pod = Pod.of(action.body)
                assert pod.metadata.labels[HASH] == present
                self.add(target(pod), "v2")
                touched += 1
            elif isinstance(action, Delete) and isinstance(action.obj, Pod):
                name = action.obj.metadata.name
                self.members[name] = replace(self.members[name], going=True, ready=False)
                touched += 1
        return touched

    def add(self, node: str, image: str, *, ready: bool = False) -> None:
        self.made += 1
        name = f"p{self.made:03d}"
        self.members[name] = Member(name, node, image, ready)

    def settle(self, fate: int) -> None:
        """Let Pods that go be gone; then none, the first, or all others become ready."""
        if fate:
            self.members = {name: m for name, m in self.members.items() if not m.going}
        waiting = [m for m in self.members.values() if not m.ready and not m.going]
        for member in waiting[: 0 if fate < 2 else 1 if fate == 2 else None]:
            self.members[member.name] = replace(member, ready=True)

    def serving(self) -> set[str]:
        return {m.node for m in self.members.values() if m.ready}

    def most_on_a_node(self) -> int:
        staying = [m.node for m in self.members.values() if not m.going]
        return max((staying.count(node) for node in staying), default=0)


def fleet(size: int, broken: set[int], **limits: Any) -> Fleet:
    nodes = [a_node(f"n{n}") for n in range(size)]
    made = Fleet(a_set("v2", **rolling(**limits)), nodes)
    for n in range(size):
        made.add(f"n{n}", "v1", ready=n not in broken)
    return made


def finish(made: Fleet) -> None:
    for _ in range(25):
        made.step()
        made.settle(3)
    assert made.step() == 0, "a finished rollout plans nothing"
    assert sorted(m.node for m in made.members.values()) == sorted(
        node.metadata.name for node in made.nodes
    )
    assert {m.image for m in made.members.values()} <= {"v2"}


def share(amount: int | str, total: int) -> int:
    return -(-int(amount[:-1]) * total // 100) if isinstance(amount, str) else amount


AMOUNTS = st.one_of(st.integers(1, 4), st.integers(1, 100).map(lambda n: f"{n}%"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), AMOUNTS, st.sets(st.integers(0, 5)), Fates)
def test_no_more_nodes_go_without_than_may_be_unavailable(
    size: int, missing: int | str, broken: set[int], fates: list[int]
) -> None:
    made = fleet(size, broken, maxUnavailable=missing, maxSurge=0)
    for fate in fates:
        without = size - len(made.serving())
        made.step()
        after = size - len(made.serving())
        assert after <= max(without, share(missing, size)), "more than maxUnavailable down"
        assert made.most_on_a_node() <= 1
        made.settle(fate)
    finish(made)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), AMOUNTS, Fates)
def test_with_a_surge_no_node_is_ever_without_and_few_have_two(
    size: int, surge: int | str, fates: list[int]
) -> None:
    made = fleet(size, set(), maxUnavailable=0, maxSurge=surge)
    for fate in fates:
        made.step()
        assert len(made.serving()) == size, "a node is without"
        doubled = sum(not m.going for m in made.members.values()) - size
        assert doubled <= share(surge, size), "more than maxSurge extra"
        made.settle(fate)
    finish(made)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["v1", "v2"]), st.booleans(), st.booleans()),
        max_size=8,
    ),
    st.sampled_from([{"maxUnavailable": 1}, {"maxUnavailable": 0, "maxSurge": 1}]),
)
def test_from_any_state_every_node_ends_with_one_pod_of_the_present_template(
    state: list[tuple[int, str, bool, bool]], limits: dict[str, int]
) -> None:
    made = Fleet(a_set("v2", **rolling(**limits)), [a_node(f"n{n}") for n in range(3)])
    for node, image, ready, going in state:
        made.add(f"n{node}", image, ready=ready and not going)
        name = f"p{made.made:03d}"
        made.members[name] = replace(made.members[name], going=going)
    finish(made)
