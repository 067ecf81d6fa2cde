"""Rules about what a node is, whatever runs on it: asked again only when a node changes."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from sampan.api.objects import Taint
from sampan.api.selectors import Requirement
from sampan.scheduler.arrays import Mask, Ratings, Rows
from sampan.scheduler.ask import Ask
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import Demand, NodeTerm

CORDONED: Final = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")

SMALL_IMAGE: Final = 23 * 1024**2
LARGE_IMAGE: Final = 1000 * 1024**2
"""Bytes below which an image's presence is worth nothing, and above which no more (a container);
kube-scheduler's ImageLocality."""


def count(table: Table, rows: Rows) -> int:
    return table.top if isinstance(rows, slice) else rows.size


# ---- filters


def cordoned(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    if not _tolerated(ask.demand, CORDONED):
        yield "node(s) were unschedulable", table.unschedulable[: table.top][rows]


def cordoned_detail(_ask: Ask, _table: Table, _row: int) -> str:
    return "cordoned (kubectl uncordon lets Pods in again)"


def tainted(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    """A node is charged with the first taint that the Pod does not tolerate."""
    sets = table.taint_set[: table.top][rows]
    for number, taints in enumerate(table.taint_sets):
        if taint := _untolerated(ask.demand, taints, {"NoSchedule", "NoExecute"}):
            text = f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
            yield text, sets == number


def tainted_detail(ask: Ask, table: Table, row: int) -> str:
    taints = table.taint_sets[table.taint_set[row]]
    taint = _untolerated(ask.demand, taints, {"NoSchedule", "NoExecute"})
    return f"no toleration of {_written(taint)}" if taint else "tainted"


def unselected(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    if ask.demand.node_selector or ask.demand.required_nodes is not None:
        chosen = selected(ask.demand, table, rows)
        yield "node(s) didn't match Pod's node affinity/selector", ~chosen


def unselected_detail(ask: Ask, table: Table, row: int) -> str:
    """Name the first label of the node selector that is wrong, if it is that simple."""
    labels = table.labels[row]
    for requirement in ask.demand.node_selector:
        if not requirement.matches(labels):
            found = labels.get(requirement.key)
            has = f"is {found}" if found is not None else "is not set"
            return f"needs label {requirement.key}={requirement.values[0]}, which {has}"
    terms = " or ".join(map(_spelled, ask.demand.required_nodes or ()))
    return f"needs {terms}" if terms else "its node affinity has no term, which means no node"


def out_of_reach(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    """Nodes from which a volume cannot be used, or for which none can be had."""
    volumes = ask.demand.volumes
    if volumes.blocked:
        yield volumes.blocked, np.ones(count(table, rows), np.bool_)
    for reason, terms in volumes.nodes:
        reached = np.zeros(count(table, rows), np.bool_)
        for term in terms:
            reached |= _matching(term, table, rows)
        yield reason, ~reached


def out_of_reach_detail(ask: Ask, table: Table, row: int) -> str:
    one = np.array([row])
    for reason, terms in ask.demand.volumes.nodes:
        if any(_matching(term, table, one)[0] for term in terms):
            continue
        wanted = " or ".join(map(_spelled, terms))
        if not wanted:
            return "no volume that is free satisfies its claim, and none can be made"
        return f"{'its volume' if 'bind' not in reason else 'a volume for it'} is at {wanted}"
    return ask.demand.volumes.blocked


def selected(demand: Demand, table: Table, rows: Rows) -> Mask:
    """Say which nodes the selector and the required node affinity choose."""
    chosen = _all(demand.node_selector, table, rows)
    if demand.required_nodes is not None:
        any_term = np.zeros(count(table, rows), np.bool_)
        for term in demand.required_nodes:
            any_term |= _matching(term, table, rows)
        chosen &= any_term
    return chosen


def tolerable(demand: Demand, table: Table, rows: Rows) -> Mask:
    """Say which nodes have no taint that keeps the Pod away."""
    verdicts = [
        _untolerated(demand, taints, {"NoSchedule", "NoExecute"}) is None
        for taints in table.taint_sets
    ]
    answer: Mask = np.array(verdicts)[table.taint_set[: table.top][rows]]
    return answer


# ---- scores


def preferred(ask: Ask, table: Table, rows: Rows) -> Ratings | None:
    if not ask.demand.preferred_nodes:
        return None
    total = np.zeros(count(table, rows))
    for weight, term in ask.demand.preferred_nodes:
        total += weight * _matching(term, table, rows)
    return _to_hundred(total)


def few_taints(ask: Ask, table: Table, rows: Rows) -> Ratings | None:
    """Rate nodes by the PreferNoSchedule taints that the Pod does not tolerate: none is best."""
    unwelcome = np.array(
        [
            sum(
                taint.effect == "PreferNoSchedule" and not _tolerated(ask.demand, taint)
                for taint in taints
            )
            for taints in table.taint_sets
        ],
        np.float64,
    )
    if not unwelcome.any():
        return None
    return 100.0 - _to_hundred(unwelcome[table.taint_set[: table.top][rows]])


def has_images(ask: Ask, table: Table, rows: Rows) -> Ratings | None:
    """Rate nodes by the bytes of the Pod's images that they have.

    A node's share counts the less the fewer nodes have the image, so that the first node to pull
    it does not attract everything (kube-scheduler's ImageLocality).
    """
    present = [found for image in ask.demand.images if (found := table.images.get(image))]
    if not present:
        return None
    total = np.zeros(table.top)
    for sizes in present:
        where = np.fromiter(sizes, np.int64, len(sizes))
        total[where] += np.fromiter(sizes.values(), np.float64, len(sizes)) * (
            len(sizes) / max(table.nodes, 1)
        )
    most = LARGE_IMAGE * len(ask.demand.images)
    rated: Ratings = np.clip((total[rows] - SMALL_IMAGE) * (100.0 / (most - SMALL_IMAGE)), 0, 100)
    return rated


def _to_hundred(amounts: Ratings) -> Ratings:
    most = amounts.max(initial=0.0)
    return amounts * (100.0 / most) if most > 0 else amounts


# ---- labels, fields, taints


def _matching(term: NodeTerm, table: Table, rows: Rows) -> Mask:
    if not term.labels and not term.fields:
        return np.zeros(count(table, rows), np.bool_)
    mask = _all(term.labels, table, rows)
    for requirement in term.fields:
        mask &= _field(requirement, table, rows)
    return mask


def _all(requirements: Iterable[Requirement], table: Table, rows: Rows) -> Mask:
    mask = np.ones(count(table, rows), np.bool_)
    for requirement in requirements:
        mask &= table.column(requirement.key).satisfying(requirement, rows)
    return mask


def _field(requirement: Requirement, table: Table, rows: Rows) -> Mask:
    """The one field that Kubernetes lets node affinity ask for is `metadata.name`."""
    named = np.zeros(table.top, np.bool_)
    if requirement.key == "metadata.name" and requirement.operator in {"In", "NotIn"}:
        named[[table.rows[name] for name in requirement.values if name in table.rows]] = True
        if requirement.operator == "NotIn":
            named = ~named
    return named[rows]


def _tolerated(demand: Demand, taint: Taint) -> bool:
    return any(toleration.tolerates(taint) for toleration in demand.tolerations)


def _untolerated(demand: Demand, taints: Iterable[Taint], effects: set[str]) -> Taint | None:
    refused = (t for t in taints if t.effect in effects and not _tolerated(demand, t))
    return next(refused, None)


def _written(taint: Taint) -> str:
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"


def _spelled(term: NodeTerm) -> str:
    return " and ".join(
        f"{r.key} {r.operator} {','.join(r.values)}".rstrip() for r in (*term.labels, *term.fields)
    )
