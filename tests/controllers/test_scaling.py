"""The autoscaler's arithmetic: from load to replicas, and how fast."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.controllers.scaling import (
    History,
    Load,
    Tolerance,
    decide,
    replicas_for,
    tolerance_of,
)
from sampan.controllers.views_scaling import Behaviour, Policy, Rules


def load(*used: float, goal: float = 50, unready: int = 0, missing: int = 0) -> Load:
    names = {f"p{i}": amount for i, amount in enumerate(used)}
    waiting = [f"u{i}" for i in range(unready)]
    lost = [f"m{i}" for i in range(missing)]
    goals = dict.fromkeys([*names, *waiting, *lost], goal)
    return Load(names, goals, frozenset(waiting), frozenset(lost))


@pytest.mark.parametrize(
    ("seen", "current", "wanted"),
    [
        (load(100, 100), 2, 4),
        (load(25, 25), 2, 1),
        (load(52, 54), 2, 2),
        (load(56, 56), 2, 3),
        (load(100, unready=1), 2, 2),
        (load(200, unready=1), 2, 4),
        (load(100, 100, missing=1), 3, 4),
        (load(10, missing=1), 2, 2),
        (load(5, 5, 5, missing=1), 4, 2),
        (load(10, unready=3), 4, 1),
    ],
)
def test_load_becomes_replicas_as_in_kubernetes(seen: Load, current: int, wanted: int) -> None:
    assert replicas_for(seen, current, Tolerance()) == wanted


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=8), st.integers(0, 4), st.integers(0, 4))
def test_what_is_not_known_never_makes_a_change_larger(
    used: list[float], unready: int, missing: int
) -> None:
    current = len(used) + unready + missing
    sure = replicas_for(load(*used), len(used), Tolerance())
    unsure = replicas_for(load(*used, unready=unready, missing=missing), current, Tolerance())
    if load(*used).ratio > 1:
        assert unsure <= max(sure + unready + missing, current)
        assert unsure >= current or not (unready or missing)
    elif missing:
        assert unsure <= current


def history(*changes: tuple[float, int], scaled: tuple[tuple[float, int], ...] = ()) -> History:
    made = History()
    for at, replicas in changes:
        made = made.with_recommendation(at, replicas, Behaviour())
    for at, by in scaled:
        made = made.with_scaling(at, by)
    return made


BOUNDS = (1, 100)


def test_going_down_waits_until_nothing_more_was_asked_for_all_through_the_window() -> None:
    past = history((0, 10), (100, 2))
    assert decide(past, Behaviour(), 10, BOUNDS, 299).replicas == 10
    assert decide(past, Behaviour(), 10, BOUNDS, 301).replicas == 2


def test_going_up_is_at_once_but_no_faster_than_the_policies() -> None:
    verdict = decide(history((0, 90)), Behaviour(), 10, BOUNDS, 0)
    assert (verdict.replicas, verdict.limited_by) == (20, "ScaleUpLimit")
    verdict = decide(history((0, 90)), Behaviour(), 2, BOUNDS, 0)
    assert verdict.replicas == 6
    verdict = decide(history((0, 900)), Behaviour(), 80, BOUNDS, 0)
    assert (verdict.replicas, verdict.limited_by) == (100, "TooManyReplicas")


def test_what_was_scaled_within_a_period_counts_against_its_policy() -> None:
    slow = Behaviour(scale_up=Rules(policies=[Policy("Pods", 3, 60)]))
    recent = history((0, 50), scaled=((0, 2),))
    assert decide(recent, slow, 10, BOUNDS, 30).replicas == 11
    assert decide(recent, slow, 10, BOUNDS, 61).replicas == 13


@pytest.mark.parametrize(("select", "down"), [("Max", 5), ("Min", 8), ("Disabled", 10)])
def test_of_several_policies_the_selected_one_counts(select: str, down: int) -> None:
    rules = Rules(0, select, [Policy("Percent", 50, 60), Policy("Pods", 2, 60)])
    past = History().with_recommendation(0, 1, Behaviour(scale_down=rules))
    assert decide(past, Behaviour(scale_down=rules), 10, BOUNDS, 0).replicas == down


@given(st.integers(0, 200), st.integers(0, 100), st.integers(0, 20), st.integers(20, 100))
def test_a_decision_is_within_its_bounds_and_never_beyond_what_was_asked(
    wanted: int, current: int, least: int, most: int
) -> None:
    current = min(max(current, least), most)
    replicas = decide(history((0, wanted)), Behaviour(), current, (least, most), 0).replicas
    assert least <= replicas <= most
    assert min(current, wanted) <= replicas <= max(current, wanted) or not least <= wanted <= most


def test_the_tolerance_may_be_given_for_each_direction() -> None:
    given_ = tolerance_of(
        Behaviour(scale_up=Rules(tolerance="0"), scale_down=Rules(tolerance="500m"))
    )
    assert (given_.up, given_.down) == (0.0, 0.5)
    assert replicas_for(load(51, 51), 2, given_) == 3
    assert replicas_for(load(26, 26), 2, given_) == 2
