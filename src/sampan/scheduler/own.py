"""A user's own rules: plain functions over node columns, from a Python file, fenced in time.

    def filter_quiet(pod, nodes):
        "node(s) are kept quiet at night"
        return nodes.label("noise") != "low"

    def score_cool(pod, nodes):
        return 100 - nodes.numbers("temperature")

    WEIGHTS = {"score_cool": 5}
    PROFILES = {"default-scheduler": "spread", "night": "binpack"}

A filter says of every node whether it would do; its docstring is the reason given where not. A
score rates every node from 0 to 100. A rule that raises, answers nonsense or takes too long is
skipped for that Pod, counted and told of; one that does so again and again rests for a while.
"""

import runpy
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from types import FrameType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sampan.scheduler.arrays import Amounts, Mask, Ratings, Rows
from sampan.scheduler.ask import Ask
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import Demand
from sampan.scheduler.policies import (
    ABOVE_ALL,
    POLICIES,
    Policy,
    requested_to_capacity_ratio,
)
from sampan.scheduler.profile import DEFAULT, Profiles, profiles, with_own
from sampan.scheduler.rules import Cure, Filter, Score
from sampan.scheduler.standing import count

ALLOWED_SECONDS: Final = 0.02
"""For one call of one rule; deciding about a Pod takes a hundredth of that."""
IN_A_ROW: Final = 3
"""After so many failures in a row a rule rests."""
REST: Final = 60.0
"""Seconds that such a rule rests."""
HEAVIEST: Final = 100

Texts = NDArray[np.str_]


class BadRules(Exception):
    """A file of rules cannot be used; the text says why."""


class TooSlow(BaseException):
    """Raised inside a rule whose time is up; no `except Exception` there can catch it."""


@dataclass(frozen=True, slots=True)
class PodAsked:
    """What a rule sees of a Pod. CPU is in thousandths, memory in bytes."""

    demand: Demand

    @property
    def namespace(self) -> str:
        return self.demand.who.namespace

    @property
    def labels(self) -> Mapping[str, str]:
        return self.demand.labels

    @property
    def requests(self) -> Mapping[str, int]:
        return self.demand.requests

    @property
    def priority(self) -> int:
        return self.demand.priority

    @property
    def images(self) -> tuple[str, ...]:
        return self.demand.images


@dataclass(frozen=True, slots=True)
class Nodes:
    """What a rule sees of the nodes: columns, all of the same length and in the same order."""

    table: Table
    rows: Rows

    def __len__(self) -> int:
        return count(self.table, self.rows)

    @property
    def names(self) -> Texts:
        return np.array(self.table.names[: self.table.top])[self.rows]

    def capacity(self, resource: str) -> Amounts:
        return self._amounts(self.table.capacity, resource)

    def used(self, resource: str) -> Amounts:
        """Amounts that Pods on each node request, those included that are on their way there."""
        return self._amounts(self.table.used, resource)

    def free(self, resource: str) -> Amounts:
        return self.capacity(resource) - self.used(resource)

    def label(self, key: str, missing: str = "") -> Texts:
        """Return one label of every node as text."""
        column = self.table.column(key)
        values = np.array([missing, *column.values])
        texts: Texts = values[column.ids[: self.table.top][self.rows]]
        return texts

    def numbers(self, key: str, missing: float = 0.0) -> NDArray[np.float64]:
        """Return one label of every node as a number; *missing* where it is none."""
        column = self.table.column(key)
        values = np.array([missing, *(_number(value, missing) for value in column.values)])
        numbers: NDArray[np.float64] = values[column.ids[: self.table.top][self.rows]]
        return numbers

    def _amounts(self, of: Amounts, resource: str) -> Amounts:
        number = self.table.resources.get(resource)
        if number is None:
            return np.zeros(len(self), np.int64)
        amounts: Amounts = of[number, : self.table.top][self.rows]
        return amounts.copy()


Rule = Callable[[PodAsked, Nodes], Any]


@dataclass(slots=True)
class Record:
    """How a rule has fared."""

    calls: int = 0
    faults: int = 0
    skipped: int = 0
    in_a_row: int = 0
    rests_until: float = 0.0


@dataclass(slots=True)
class Sandbox:
    """Calls rules so that none can stop or slow the scheduler."""

    allowed: float = ALLOWED_SECONDS
    clock: Callable[[], float] = monotonic
    records: dict[str, Record] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What is still to be told."""
    _armed: bool = False

    def told(self) -> list[str]:
        """Return what is to be told, once."""
        faults, self.faults = self.faults, []
        return faults

    def call(self, name: str, rule: Rule, ask: Ask, table: Table, rows: Rows) -> Any:
        """Return the rule's answer as an array, None if it has none that can be used."""
        record = self.records.setdefault(name, Record())
        if self.clock() < record.rests_until:
            record.skipped += 1
            return None
        record.calls += 1
        try:
            answer = self._in_time(partial(rule, PodAsked(ask.demand), Nodes(table, rows)))
            usable = _usable(answer, count(table, rows))
        except TooSlow:
            self._fault(name, record, f"took longer than {self.allowed * 1000:g} ms")
        except Exception as error:  # noqa: BLE001 - a rule may raise anything
            self._fault(name, record, f"raised {type(error).__name__}: {error}")
        else:
            record.in_a_row = 0
            return usable
        finally:
            self._disarm()  # once more: the alarm may have gone off while it was switched off
        return None

    def _in_time(self, call: Callable[[], Any]) -> Any:
        """Call, and interrupt what takes too long; outside the main thread that is only noticed."""
        begun = perf_counter()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, self._ring)
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self.allowed, self.allowed)
        try:
            answer = call()
        finally:
            self._disarm()
        if perf_counter() - begun > self.allowed:
            raise TooSlow
        return answer

    def _disarm(self) -> None:
        if self._armed:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if self._armed:
            raise TooSlow

    def _fault(self, name: str, record: Record, what: str) -> None:
        record.faults += 1
        record.in_a_row += 1
        text = f"rule {name} {what}; this Pod was placed without it"
        if record.in_a_row >= IN_A_ROW:
            record.rests_until = self.clock() + REST
            record.in_a_row = 0
            text += f", and as it failed {IN_A_ROW} times in a row it rests for {REST:g} s"
        self.faults.append(text)


def _usable(answer: Any, length: int) -> NDArray[Any]:
    """Return *answer* as a column; raise ValueError if it cannot be one."""
    column = np.broadcast_to(np.asarray(answer), (length,))
    if not np.isfinite(column).all():
        raise ValueError("its answer is not a number everywhere")
    return column


@dataclass(frozen=True, slots=True)
class OwnRules:
    sandbox: Sandbox
    profiles: Profiles


def load(path: Path, sandbox: Sandbox | None = None) -> OwnRules:
    """Read the rules in *path*; raise BadRules if that is impossible or makes no sense."""
    try:
        names = runpy.run_path(str(path))
    except Exception as error:
        raise BadRules(f"{path}: {type(error).__name__}: {error}") from error
    fence = sandbox or Sandbox()
    weights = names.get("WEIGHTS", {})
    own = {n: f for n, f in names.items() if callable(f) and n.startswith(("filter_", "score_"))}
    for name, weight in weights.items():
        if name not in own or not 0 <= weight <= HEAVIEST:
            raise BadRules(f"{path}: WEIGHTS[{name!r}] must be 0 to {HEAVIEST}, for a score in it")
    filters = [_filter(n, f, fence) for n, f in own.items() if n.startswith("filter_")]
    scores = [
        _score(n, f, float(weights.get(n, 1)), fence)
        for n, f in own.items()
        if n.startswith("score_")
    ]
    return OwnRules(fence, _profiles(path, names.get("PROFILES", {}), filters, scores))


def _profiles(
    path: Path, named: Mapping[str, Any], filters: list[Filter], scores: list[Score]
) -> Profiles:
    built_in = profiles(with_own(DEFAULT, filters, scores))
    chosen = {}
    for scheduler, wanted in named.items():
        try:
            policy = policy_of(wanted)
        except (LookupError, TypeError, ValueError) as error:
            raise BadRules(f"{path}: PROFILES[{scheduler!r}]: {error}") from error
        chosen[scheduler] = with_own(replace(DEFAULT, policy=policy), filters, scores)
    return {**built_in, **chosen}


def policy_of(wanted: Any) -> Policy:
    """Return the policy of a word, or of a shape (kube-scheduler's RequestedToCapacityRatio).

    A shape is `{"shape": [(0, 0), (100, 10)], "weights": {"cpu": 1, "memory": 1}}`: scores from
    0 to 10 by percent in use, and how much each resource counts.
    """
    if isinstance(wanted, str):
        if wanted not in POLICIES:
            raise LookupError(f"{wanted!r} is none of {', '.join(POLICIES)}")
        return POLICIES[wanted]
    points = [(float(use), float(score)) for use, score in wanted["shape"]]
    weights = {str(name): float(weight) for name, weight in wanted["weights"].items()}
    if points != sorted(points) or not points or sum(weights.values()) <= 0:
        raise ValueError("its shape must be points in order, and its weights more than nothing")
    rates = requested_to_capacity_ratio(points, weights)
    return Policy(room=(Score("RequestedToCapacityRatio", ABOVE_ALL, rates),))


def _filter(name: str, rule: Rule, fence: Sandbox) -> Filter:
    reason = (rule.__doc__ or f"node(s) were refused by {name}").strip().splitlines()[0]

    def refuses(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
        answer = fence.call(name, rule, ask, table, rows)
        if answer is not None:
            yield reason, ~answer.astype(np.bool_)

    def detail(_ask: Ask, _table: Table, _row: int) -> str:
        return f"refused by your rule {name}"

    anything = frozenset({Cure.NODE, Cure.POD_GONE, Cure.POD_CAME})
    return Filter(name, refuses, detail, anything)


def _score(name: str, rule: Rule, weight: float, fence: Sandbox) -> Score:
    def rates(ask: Ask, table: Table, rows: Rows) -> Ratings | None:
        answer = fence.call(name, rule, ask, table, rows)
        return None if answer is None else np.clip(answer.astype(np.float64), 0.0, 100.0)

    return Score(name, weight, rates)


def _number(text: str, missing: float) -> float:
    try:
        return float(text)
    except ValueError:
        return missing
