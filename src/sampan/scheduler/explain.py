"""Why a Pod fits nowhere, read from the arrays that decided it.

First what kube-scheduler would say, which people and tools know; then, for the nodes that come
closest, the rule and the numbers.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from sampan.scheduler.arrays import Index, Mask
from sampan.scheduler.ask import Ask
from sampan.scheduler.columns import Table
from sampan.scheduler.place import Placer
from sampan.scheduler.rules import Cure, Filter
from sampan.scheduler.standing import count

FRANK: Final = 3
"""How many nodes are told of one by one."""
LONGEST: Final = 1000
"""Characters of an explanation; Kubernetes cuts an event's message at 1024."""


@dataclass(frozen=True, slots=True)
class Explanation:
    summary: str
    """In kube-scheduler's form; the same as long as the same rules refuse as many nodes."""
    details: str
    cures: frozenset[Cure]
    """What can change the answer."""

    def __str__(self) -> str:
        text = f"{self.summary} {self.details}".rstrip()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def explain(placer: Placer, ask: Ask, making_room: str = "") -> Explanation:
    """Explain why no node takes *ask*, which must just have been refused.

    *making_room* says what is being done about it, if anything is.
    """
    table = placer.table
    rows = np.flatnonzero(table.alive[: table.top])
    if not rows.size:
        return Explanation("no nodes available to schedule pods.", "", frozenset({Cure.NODE}))
    reasons: Counter[str] = Counter()
    charged: list[tuple[Filter, Index]] = []
    for rule in ask.profile.filters:
        refused = _charge(rule, ask, table, rows, reasons)
        if refused.any():
            charged.append((rule, rows[refused]))
            rows = rows[~refused]
    counted = ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))
    if blocked := ask.demand.volumes.blocked:
        return Explanation(
            f"0/{table.nodes} nodes are available: {blocked}.", "", frozenset({Cure.VOLUME})
        )
    return Explanation(
        f"0/{table.nodes} nodes are available: {counted}.",
        " ".join((*_details(charged, ask, table), *_preemption(ask, table, making_room))),
        frozenset({Cure.NODE}).union(*(rule.cures for rule, _ in charged)),
    )


def _charge(rule: Filter, ask: Ask, table: Table, rows: Index, reasons: Counter[str]) -> Mask:
    """Return which of *rows* this rule refuses; a node may have more than one of its reasons."""
    all_refused: Mask = np.zeros(rows.size, np.bool_)
    for reason, refused in rule.refuses(ask, table, rows):
        if number := int(refused.sum()):
            reasons[reason] += number
            all_refused |= refused
    return all_refused


def _details(charged: list[tuple[Filter, Index]], ask: Ask, table: Table) -> list[str]:
    """Tell of the nodes that came furthest through the filters, which are the likeliest cure."""
    told: list[str] = []
    left = 0
    for rule, rows in reversed(charged):
        told += [
            f"{table.names[row]}: {rule.detail(ask, table, int(row))}"
            for row in rows[: FRANK - len(told)]
        ]
        left += rows.size
    more = [f"and {left - len(told)} more"] if left > len(told) else []
    return ["; ".join((*told, *more)) + "."] if told else []


def _preemption(ask: Ask, table: Table, making_room: str) -> list[str]:
    """Say what becomes of the less important Pods that are in the way, if there are any."""
    demand = ask.demand
    if making_room:
        return [making_room]
    if not table.lower(demand.priority):
        return []
    if not demand.preempts:
        return ["preemption: not eligible due to preemptionPolicy=Never."]
    tried = count(table, ask.rows)
    reasons = {
        "No preemption victims found for incoming pod": tried,
        "Preemption is not helpful for scheduling": table.nodes - tried,
    }
    counted = ", ".join(f"{number} {reason}" for reason, number in reasons.items() if number)
    return [f"preemption: 0/{table.nodes} nodes are available: {counted}."]
