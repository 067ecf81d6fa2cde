"""Who must go so that a more important Pod can have a node.

Kubernetes' rules: only Pods of lower priority go, as few as possible on the node that is chosen,
disruption budgets are broken last, and of all nodes the one is taken where it hurts least.
Candidates are found by arithmetic on columns; only the best of them are looked at Pod by Pod.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sampan.api.selectors import Selector
from sampan.scheduler.arrays import Index
from sampan.scheduler.ask import Ask
from sampan.scheduler.columns import Held, Table
from sampan.scheduler.demand import Demand, HostPort
from sampan.scheduler.place import Placer
from sampan.scheduler.room import collide

LOOKED_AT: Final = 100
"""How many nodes are looked at Pod by Pod at most; kube-scheduler's own least number."""
BASE: Final = 2**31
"""Makes every priority positive, so that more victims always sum up to more."""


@dataclass(slots=True)
class Budget:
    """A PodDisruptionBudget: of these Pods *allowed* more may go."""

    namespace: str
    selector: Selector
    allowed: int
    already: frozenset[str] = frozenset()
    """Uids of Pods whose going is counted already."""

    def means(self, held: Held) -> bool:
        who = held.demand.who
        return who.namespace == self.namespace and self.selector.matches(held.demand.labels)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What preemption minds and no table knows."""

    budgets: Sequence[Budget] = ()
    started: Callable[[str], float] = lambda _uid: np.inf
    """When a Pod has started, by its uid; infinity if it has not."""


@dataclass(frozen=True, slots=True)
class Preemption:
    node: str
    victims: tuple[Held, ...]
    """The Pods that must go, the most important first; those that are leaving anyway are not."""
    leaving: tuple[Held, ...]
    """Pods that leave already, and whose room is needed."""
    lifted: tuple[str, ...]
    """Less important Pods by uid that this room had been promised to."""
    violations: int = 0


def preempt(placer: Placer, ask: Ask, about: Circumstances) -> Preemption | None:
    """Choose a node and victims for *ask*, which no node takes as it is; None if that is futile."""
    if not ask.demand.preempts:
        return None
    best: tuple[tuple[float, ...], Preemption] | None = None
    room_only = _minds_only_room(ask)
    for row, least in _candidates(ask, placer.table):
        if best and best[0][0] == 0 and best[0][1] < least:
            break  # elsewhere only more important Pods could go
        found = (
            _within_room(ask, placer.table, row, about)
            if room_only
            else _what_if(placer, ask, row, about)
        )
        if found:
            cost = _cost(found, about)
            if best is None or cost < best[0]:
                best = cost, found
    return best[1] if best else None


def _minds_only_room(ask: Ask) -> bool:
    company = ask.company
    repelled = any(claim.sort == "apart" for claim in ask.kin.claims)
    more = ask.profile.own_filters or ask.demand.gpus[0]
    return not (company.hard or company.beside or company.apart or repelled or more)


def _candidates(ask: Ask, table: Table) -> Iterator[tuple[int, int]]:
    """Yield nodes where the room would do, those first where the least important Pods give it.

    With each comes the least priority that some victim there must have.
    """
    rows = np.arange(table.top)[ask.rows] if isinstance(ask.rows, slice) else ask.rows
    looked, seen = 0, np.zeros(table.top, np.bool_)
    freed: Index = np.zeros((len(ask.requests), rows.size), np.int64)
    free = [table.capacity[n, rows] - table.used[n, rows] - amount for n, _, amount in ask.requests]
    for priority in table.lower(ask.demand.priority):
        used = table.by_priority[priority]
        for i, (number, _, _) in enumerate(ask.requests):
            if number < len(used):
                freed[i] += used[number, rows]
        enough = np.ones(rows.size, np.bool_)
        for i, left in enumerate(free):
            enough &= left + freed[i] >= 0
        fresh = rows[enough]
        fresh = fresh[~seen[fresh]]
        seen[fresh] = True
        start = table.forgotten + len(table.moves)  # so that not all look at the same nodes
        for row in np.roll(fresh, -(start % max(fresh.size, 1))).tolist():
            yield row, priority
            looked += 1
            if looked >= LOOKED_AT:
                return


def _cost(found: Preemption, about: Circumstances) -> tuple[float, ...]:
    """Order by what a preemption does, as in kube-scheduler's pickOneNodeForPreemption."""
    victims = found.victims
    if not victims:
        return (0, -np.inf, 0, 0, 0)
    highest = victims[0].demand.priority
    oldest = min(about.started(held.uid) for held in victims if held.demand.priority == highest)
    return (
        found.violations,
        highest,
        sum(held.demand.priority + BASE for held in victims),
        len(victims),
        -oldest,
    )


def _lower(ask: Ask, table: Table, row: int, about: Circumstances) -> list[Held]:
    """Return the Pods on *row* that may have to go, the most important first."""
    lower = [h for h in table.residents[row].values() if h.demand.priority < ask.demand.priority]
    lower.sort(key=lambda held: (-held.demand.priority, about.started(held.uid)))
    return lower


def _breaking(lower: Iterable[Held], budgets: Sequence[Budget]) -> set[str]:
    """Return whose going would break a budget, if all went in this order."""
    left = [budget.allowed for budget in budgets]
    breaking = set()
    for held in lower:
        for i, budget in enumerate(budgets):
            if held.uid not in budget.already and budget.means(held):
                left[i] -= 1
                if left[i] < 0:
                    breaking.add(held.uid)
    return breaking


def _reprieved(
    lower: Sequence[Held], stays: Callable[[Held], bool], budgets: Sequence[Budget]
) -> tuple[list[Held], list[Held], int]:
    """Spare as many of *lower* as can stay; return who goes, who leaves anyway, and violations.

    Who leaves anyway stays last of all: that costs nobody anything.
    """
    breaking = _breaking((h for h in lower if not h.leaving), budgets) if budgets else set()
    first = [h for h in lower if not h.leaving and h.uid in breaking]
    then = [h for h in lower if not h.leaving and h.uid not in breaking]
    go = [held for held in (*first, *then) if not stays(held)]
    leave = [held for held in lower if held.leaving and not stays(held)]
    violations = sum(held.uid in breaking for held in go)
    order = {held.uid: i for i, held in enumerate(lower)}
    go.sort(key=lambda held: order[held.uid])
    return go, leave, violations


# ---- where only room matters


def _within_room(ask: Ask, table: Table, row: int, about: Circumstances) -> Preemption | None:
    """Reckon on one node; nothing in *table* is touched."""
    lower = _lower(ask, table, row, about)
    names = [name for _, name, _ in ask.requests]
    spare = {
        name: int(table.capacity[number, row] - table.used[number, row]) - amount
        for number, name, amount in ask.requests
    }
    promised = _promised(ask, table, row)
    for demand in (*(held.demand for held in lower), *(demand for _, demand in promised)):
        for name in names:
            spare[name] += demand.requests.get(name, 0)
    if any(left < 0 for left in spare.values()) or _port_kept(ask, table, row, lower):
        return None

    def stays(held: Held) -> bool:
        return _take(spare, held.demand.requests) and not _clash(ask, held.demand.ports)

    go, leave, violations = _reprieved(lower, stays, about.budgets)
    lifted = tuple(uid for uid, demand in promised if not _take(spare, demand.requests))
    return Preemption(table.names[row], tuple(go), tuple(leave), lifted, violations)


def _take(spare: dict[str, int], requests: Mapping[str, int]) -> bool:
    """Take *requests* out of *spare*, if there is as much."""
    if any(requests.get(name, 0) > left for name, left in spare.items()):
        return False
    for name in spare:
        spare[name] -= requests.get(name, 0)
    return True


def _promised(ask: Ask, table: Table, row: int) -> list[tuple[str, Demand]]:
    promised = [
        (uid, demand)
        for uid, demand in table.reserved_on(row)
        if demand.priority < ask.demand.priority
    ]
    return sorted(promised, key=lambda each: -each[1].priority)


def _clash(ask: Ask, ports: Iterable[HostPort]) -> bool:
    return any(collide(mine, other) for mine in ask.demand.ports for other in ports)


def _port_kept(ask: Ask, table: Table, row: int, lower: Iterable[Held]) -> bool:
    """Say whether a Pod that may not go has a host port that is asked for."""
    if not ask.demand.ports:
        return False
    goes = {held.uid for held in lower}
    stay = (h for uid, h in table.residents[row].items() if uid not in goes)
    return any(_clash(ask, held.demand.ports) for held in stay)


# ---- where neighbours matter


def _what_if(placer: Placer, ask: Ask, row: int, about: Circumstances) -> Preemption | None:
    """Take Pods off the table, ask the rules, and put everything back."""
    table = placer.table
    node = table.names[row]
    lower = _lower(ask, table, row, about)
    promised = _promised(ask, table, row)
    for held in lower:
        table.remove(held.uid)
    for uid, _ in promised:
        table.unreserve(uid)

    try:
        if not placer.fits(ask, row):
            return None
        go, leave, violations = _reprieved(
            lower, lambda held: _put_back(placer, ask, held, node), about.budgets
        )
        lifted = [uid for uid, demand in promised if not _kept(placer, ask, uid, demand, node)]
        return Preemption(node, tuple(go), tuple(leave), tuple(lifted), violations)
    finally:
        for held in lower:
            table.add(held.uid, held.demand, node, leaving=held.leaving)
        for uid, demand in promised:
            if uid not in table.reserved:
                table.reserve(uid, demand, node)


def _put_back(placer: Placer, ask: Ask, held: Held, node: str) -> bool:
    """Put a Pod back if *ask* still fits then."""
    placer.table.add(held.uid, held.demand, node, leaving=held.leaving)
    if placer.fits(ask, placer.table.rows[node]):
        return True
    placer.table.remove(held.uid)
    return False


def _kept(placer: Placer, ask: Ask, uid: str, demand: Demand, node: str) -> bool:
    """Keep a promise if *ask* still fits then."""
    placer.table.reserve(uid, demand, node)
    if placer.fits(ask, placer.table.rows[node]):
        return True
    placer.table.unreserve(uid)
    return False
