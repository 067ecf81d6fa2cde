"""Numbers, slots and changes of the rule table."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.net import rules
from sampan.net.compile import Frontend, Group, Part, Target
from sampan.net.program import Change, Elements, Program
from tests.net.objects import NODE


def group(name: str, count: int, *, front: str = "10.43.0.1", sticky: bool = False) -> Group:
    targets = tuple(Target(f"10.42.{i // 250}.{i % 250 + 2}", 80) for i in range(count))
    return Group(name, (Frontend(front, "TCP", 80),), targets, sticky)


def play(held: Elements, change: Change) -> Elements:
    """Do to *held* what the kernel would do; it refuses what does not fit."""
    after = dict(held)
    for slot in change.removed:
        del after[slot]
    for slot, value in change.added:
        assert slot not in after
        after[slot] = value
    return after


def walk(elements: Elements, front: str) -> set[str]:
    """Where packets to port 80 of *front* may end, going through the maps as the kernel does."""
    mark = int(elements["vips", f"{front} . tcp . 80"], 16)
    assert elements["groups", f"{mark:#x}"].startswith("goto ")
    low = rules.STICKY_BIT * 2 - 1
    return {
        value
        for (name, key), value in elements.items()
        if name == "endpoints" and int(key, 16) & low == mark
    }


def test_the_number_of_rules_does_not_depend_on_services() -> None:
    program = Program(NODE)
    empty = program.whole()
    for number in range(50):
        program.put(f"s{number}", (group("tcp", number % 7, front=f"10.43.1.{number}"),))
    full = program.whole()
    assert full.startswith(empty)
    assert "chain" not in full[len(empty) :]


def test_a_satisfied_program_has_no_change() -> None:
    program = Program(NODE)
    program.put("a", (group("tcp", 3),))
    assert program.take()
    program.put("a", (group("tcp", 3),))
    assert not program.take()
    assert program.take().commands() == ""


def test_removing_what_was_added_meanwhile_is_no_change() -> None:
    program = Program(NODE)
    program.put("a", (group("tcp", 3),))
    program.put("a", ())
    assert not program.take()
    assert len(program) == 0


def test_one_more_endpoint_changes_one_endpoint_and_how_to_choose() -> None:
    program = Program(NODE)
    program.put("a", (group("tcp", 3),))
    program.take()
    program.put("a", (group("tcp", 4),))
    change = program.take()
    assert change.removed == (("groups", "0x1"),)
    assert len(change.added) == 2


def test_a_contested_address_belongs_to_the_first_in_order_whoever_came_first() -> None:
    one, other = group("tcp", 1), group("tcp", 2)
    for order in ((("a", one), ("b", other)), (("b", other), ("a", one))):
        program = Program(NODE)
        held: Elements = {}
        for key, part in order:
            program.put(key, (part,))
            held = play(held, program.take())
        assert len(walk(held, "10.43.0.1")) == 1
        program.put("a", ())
        held = play(held, program.take())
        assert len(walk(held, "10.43.0.1")) == 2


def test_udp_endpoints_that_go_and_frontends_that_come_are_named() -> None:
    served = Group("udp", (Frontend("", "UDP", 53),), (Target("10.42.1.2", 53),))
    program = Program(NODE)
    program.put("a", (served,))
    change = program.take()
    assert not change.gone
    assert set(change.fresh) == {("", 53)}
    program.put("a", ())
    change = program.take()
    assert set(change.gone) == {Target("10.42.1.2", 53)}
    assert not change.fresh


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 100, 200, 300, 1000, 4096, 5000])
def test_every_target_has_nearly_the_same_share_of_slots(count: int) -> None:
    targets = group("tcp", count).targets
    shares = Counter(target for _, target in rules.slots(targets, sticky=False))
    assert len(shares) == min(count, rules.MOST_TARGETS)
    most, least = max(shares.values()), min(shares.values())
    assert most - least <= 1
    assert least >= 4 or count <= 64 or count > 1024
    marks = [upper for upper, _ in rules.slots(targets, sticky=False)]
    assert len(set(marks)) == len(marks)
    assert all(mark < 1 << 32 and not mark & (rules.STICKY_BIT * 2 - 1) for mark in marks)


def test_sticky_clients_stay_when_another_endpoint_goes() -> None:
    targets = group("tcp", 8).targets
    before = dict(rules.slots(targets, sticky=True))
    after = dict(rules.slots(targets[1:], sticky=True))
    assert len(before) == 64
    assert {slot for slot in before if before[slot] != after[slot]} == {
        slot for slot in before if before[slot] == targets[0]
    }


def test_every_chain_that_is_chosen_exists() -> None:
    base = rules.base(NODE)
    for count in (1, 2, 64, 65, 128, 200, 300, 600, 4096, 9999):
        for sticky in (False, True):
            assert f"chain {rules.choice(count, sticky=sticky)} {{" in base


parts = st.lists(
    st.builds(
        lambda number, count, sticky: group(
            f"g{number}", count, front=f"10.43.0.{number}", sticky=sticky
        ),
        st.integers(1, 4),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda made: made.name,
).map(tuple)
puts = st.lists(st.tuples(st.sampled_from("abc"), parts, st.booleans()), max_size=15)


@settings(max_examples=200, deadline=None)
@given(puts)
def test_playing_the_changes_gives_what_loading_the_whole_would(
    steps: list[tuple[str, Part, bool]],
) -> None:
    program = Program(NODE)
    held: Elements = {}
    last: dict[str, Part] = {}
    for key, part, take in steps:
        program.put(key, part)
        last[key] = part
        if take:
            held = play(held, program.take())
    held = play(held, program.take())
    assert held == program.elements()
    claims = {
        f.address: g
        for key in sorted(last, reverse=True)
        for g in last[key]
        for f in g.frontends
        if g.targets
    }
    for front, winner in claims.items():
        assert walk(held, front) == {f"{t.address} . {t.port}" for t in winner.targets}
