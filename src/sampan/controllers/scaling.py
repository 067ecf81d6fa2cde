"""How many replicas a measured load asks for, and how fast that may change: arithmetic only.

Source: Kubernetes, "Horizontal Pod Autoscaling" (algorithm details, configurable behaviour) and
pkg/controller/podautoscaler/replica_calculator.go.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sampan.api import quantities
from sampan.controllers.views_scaling import Behaviour, Policy, Rules

TOLERANCE: Final = 0.1
DOWN_WINDOW: Final = 300
_UP: Final = Rules(policies=[Policy("Pods", 4, 15), Policy("Percent", 100, 15)])
_DOWN: Final = Rules(policies=[Policy("Percent", 100, 15)])


@dataclass(frozen=True, slots=True)
class Load:
    """What the Pods of a workload use, by name; *goal* is what each should use.

    *unready* and *missing* are Pods that do not count yet, and that nobody has measured.
    """

    used: Mapping[str, float]
    goal: Mapping[str, float]
    unready: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()

    @property
    def ratio(self) -> float:
        """How the use of the measured Pods that count compares with their goal."""
        return _ratio(self.used, self.goal)


def _ratio(used: Mapping[str, float], goal: Mapping[str, float]) -> float:
    wanted = sum(goal[name] for name in used)
    return sum(used.values()) / wanted if wanted else 0.0


@dataclass(frozen=True, slots=True)
class Tolerance:
    up: float = TOLERANCE
    down: float = TOLERANCE

    def allows(self, ratio: float) -> bool:
        """Whether *ratio* is near enough to 1 to change nothing."""
        return 1 - self.down <= ratio <= 1 + self.up


def tolerance_of(behaviour: Behaviour) -> Tolerance:
    def given(rules: Rules | None) -> float:
        text = rules.tolerance if rules else None
        return TOLERANCE if text is None else float(quantities.parse(text))

    return Tolerance(given(behaviour.scale_up), given(behaviour.scale_down))


def replicas_for(load: Load, current: int, tolerance: Tolerance) -> int:
    """Return the replicas that bring *load* to its goal.

    Who was not measured is taken to be at its goal when that would mean fewer, and idle when it
    would mean more; who is not ready yet is idle when it would mean more.
    """
    ratio = load.ratio
    waiting = load.unready if ratio > 1 else frozenset()
    if not waiting and not load.missing:
        count = len(load.used)
        return current if tolerance.allows(ratio) else math.ceil(_rounded(ratio * count))
    assumed = dict(load.used)
    for name in load.missing:
        assumed[name] = load.goal[name] if ratio < 1 else 0.0
    for name in waiting:
        assumed[name] = 0.0
    again = _ratio(assumed, load.goal)
    if tolerance.allows(again) or (ratio < 1) != (again < 1):
        return current
    wanted = math.ceil(_rounded(again * len(assumed)))
    return max(wanted, current) if again > 1 else min(wanted, current)


def _rounded(value: float) -> float:
    """Take away what binary fractions add: 3.0000000000000004 replicas are 3."""
    return round(value, 6)


@dataclass(frozen=True, slots=True)
class Change:
    """A number of replicas at a time: a recommendation, or by how much was scaled."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class History:
    """What was recommended for, and done to, one workload; newest last."""

    recommended: tuple[Change, ...] = ()
    scaled: tuple[Change, ...] = ()

    def with_recommendation(self, at: float, replicas: int, behaviour: Behaviour) -> "History":
        kept = max(_window(behaviour.scale_up, 0), _window(behaviour.scale_down, DOWN_WINDOW))
        recent = tuple(c for c in self.recommended if at - c.at <= kept)
        return replace(self, recommended=(*recent, Change(at, replicas)))

    def with_scaling(self, at: float, by: int) -> "History":
        recent = tuple(c for c in self.scaled if at - c.at <= 1800)  # noqa: PLR2004 - the longest period
        return replace(self, scaled=(*recent, Change(at, by)))


def _window(rules: Rules | None, default: int) -> int:
    given = rules.stabilization_window_seconds if rules else None
    return default if given is None else given


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many replicas, and what kept them from being as many as was recommended."""

    replicas: int
    limited_by: str = ""


def decide(
    history: History, behaviour: Behaviour, current: int, bounds: tuple[int, int], now: float
) -> Verdict:
    """Turn the last recommendation into a number: steady, not too fast, and within *bounds*."""
    wanted = _steadied(history, behaviour, current, now)
    least, most = bounds
    if wanted > current:
        allowed = max(_limit(history, behaviour.scale_up or _UP, _UP, current, now), current)
        chosen = min(wanted, allowed, most)
        reason = "TooManyReplicas" if chosen == most < wanted else "ScaleUpLimit"
    elif wanted < current:
        allowed = min(_limit(history, behaviour.scale_down or _DOWN, _DOWN, current, now), current)
        chosen = max(wanted, allowed, least)
        reason = "TooFewReplicas" if chosen == least > wanted else "ScaleDownLimit"
    else:
        chosen, reason = min(max(wanted, least), most), ""
    return Verdict(chosen, reason if chosen != wanted else "")


def _steadied(history: History, behaviour: Behaviour, current: int, now: float) -> int:
    """Go up only to what was recommended all through a window, and down likewise."""

    def within(window: int) -> list[int]:
        return [c.replicas for c in history.recommended if now - c.at <= window]

    last = history.recommended[-1].replicas
    floor = min([last, *within(_window(behaviour.scale_up, 0))])
    ceiling = max([last, *within(_window(behaviour.scale_down, DOWN_WINDOW))])
    return min(max(current, floor), ceiling)


def _limit(history: History, rules: Rules, default: Rules, current: int, now: float) -> int:
    """Return how far the policies let *current* go in the direction of *default*."""
    if rules.select_policy == "Disabled":
        return current
    up = default is _UP
    reach = [_reach(history, p, current, now, up=up) for p in rules.policies or default.policies]
    generous: Callable[[Iterable[int]], int] = max if up == (rules.select_policy != "Min") else min
    return generous(reach)


def _reach(history: History, policy: Policy, current: int, now: float, *, up: bool) -> int:
    recent = [c.replicas for c in history.scaled if now - c.at < policy.period_seconds]
    start = current - sum(recent)
    if policy.type == "Pods":
        return start + policy.value if up else start - policy.value
    share = start * policy.value / 100
    return math.ceil(_rounded(start + share)) if up else math.ceil(_rounded(start - share))
