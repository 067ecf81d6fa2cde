"""Rules about a node's neighbours: asked for every Pod, as an answer may change anywhere."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sampan.scheduler.arrays import Amounts, Index, LabelColumn, Mask, Ratings, Rows
from sampan.scheduler.ask import Ask, Domains
from sampan.scheduler.census import Tally
from sampan.scheduler.columns import Table
from sampan.scheduler.standing import count, selected, tolerable
from sampan.scheduler.terms import PodTerm, Spread

Totals = NDArray[np.float64]


def rows_of(mask: Mask) -> Rows:
    """Return the rows where *mask* holds, as a slice if that is all of them."""
    return slice(0, mask.size) if mask.all() else np.flatnonzero(mask)


# ---- spreading


def crowded(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    text = "node(s) didn't match pod topology spread constraints"
    for spread, tally in ask.company.hard:
        at = table.column(spread.topology_key).ids[: table.top][rows]
        yield f"{text} (missing required label)", at == 0
        totals, least = _skew(ask, table, spread, tally)
        over = totals + _itself(ask, table, spread) - least > spread.max_skew
        over[0] = False
        yield text, over[at]


def crowded_detail(ask: Ask, table: Table, row: int) -> str:
    for spread, tally in ask.company.hard:
        key = spread.topology_key
        domain = table.labels[row].get(key)
        if domain is None:
            return f"has no label {key}"
        totals, least = _skew(ask, table, spread, tally)
        here = int(totals[table.column(key).ids[row]])
        if here + _itself(ask, table, spread) - least > spread.max_skew:
            return (
                f"{key}={domain} has {here} of these Pods and the emptiest has {int(least)}, "
                f"maxSkew is {spread.max_skew}"
            )
    return "the Pods would be spread too unevenly"


def evenly(ask: Ask, table: Table, rows: Rows) -> Ratings | None:
    """Rate nodes by how few of the Pods to be spread are in their domains.

    A domain costs its Pods times log(domains + 2), as in kube-scheduler, so that with few zones
    and many hosts the zones do not drown the hosts. Unlike there, the difference between the best
    and the worst counts in full as soon as it is a quarter of the largest count: a Deployment of
    some replicas is spread evenly, whatever else the nodes run.
    """
    if not ask.company.soft:
        return None
    cost = np.zeros(count(table, rows))
    for spread, tally in ask.company.soft:
        cost += _crowding(ask, table, rows, spread, tally)
    most, least = cost.max(initial=0.0), cost.min(initial=np.inf)
    if most <= 0 or most == least:
        return None
    rated: Ratings = (most - cost) * (100.0 / max(most - least, most / 4))
    return rated


def _crowding(ask: Ask, table: Table, rows: Rows, spread: Spread, tally: Tally) -> Ratings:
    """Return what each node's domain costs; a node without the label is in the worst of all."""
    domains = _domains(ask, table, spread)
    if not domains.number:
        return np.zeros(count(table, rows))
    at = table.column(spread.topology_key).ids[: table.top][rows]
    totals = _per_domain(domains, tally, table)
    totals[0] = totals.max()
    costs: Ratings = (totals * np.log(domains.number + 2))[at]
    return costs


def _skew(ask: Ask, table: Table, spread: Spread, tally: Tally) -> tuple[Totals, float]:
    """Return the Pods in each domain, and in the emptiest."""
    domains = _domains(ask, table, spread)
    totals = _per_domain(domains, tally, table)
    if domains.number < max(spread.min_domains, 1):
        return totals, 0.0
    return totals, float(totals[domains.present].min())


def _per_domain(domains: Domains, tally: Tally, table: Table) -> Totals:
    counts = tally.counts[: table.top][domains.rows]
    return _totals(domains.ids, counts, domains.present.size)


def _itself(ask: Ask, table: Table, spread: Spread) -> int:
    return int(spread.term.means(ask.kin.who, ask.kin.labels, table.census.namespaces))


def _domains(ask: Ask, table: Table, spread: Spread) -> Domains:
    """Return what counts for *spread*; kept until a node changes."""
    found = ask.domains.get(spread)
    if found is not None:
        return found
    everything = slice(0, table.top)
    counting = table.alive[: table.top].copy()
    for other in ask.demand.spreads:
        if other.hard == spread.hard and not other.by_default:
            counting &= table.column(other.topology_key).ids[: table.top] > 0
    if spread.honours_affinity:
        counting &= selected(ask.demand, table, everything)
    if spread.honours_taints:
        counting &= tolerable(ask.demand, table, everything)
    rows = rows_of(counting)
    column = table.column(spread.topology_key)
    ids = column.ids[: table.top][rows]
    present = np.bincount(ids, minlength=column.width) > 0
    present[0] = False
    found = ask.domains[spread] = Domains(rows, ids, present, int(present.sum()))
    return found


# ---- affinity


def unwelcome(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    yield from _repelled(ask, table, rows)
    yield from _too_near(ask, table, rows)
    yield from _too_far(ask, table, rows)


def unwelcome_detail(ask: Ask, table: Table, row: int) -> str:
    one = np.array([row])
    company = ask.company
    if any(mask[0] for _, mask in _repelled(ask, table, one)):
        return "a Pod there keeps Pods like this one away by its anti-affinity"
    for pods, tally in company.apart:
        if near := int(_near(tally.counts, pods.topology_key, table, one)[0]):
            return f"{_place(pods, table, row)} has {near} Pod(s) that its anti-affinity means"
    for pods in company.beside:
        if pods.topology_key not in table.labels[row]:
            return f"has no label {pods.topology_key}"
    keys = " and ".join(_place(pods, table, row) for pods in company.beside)
    return f"{keys} has no Pod that its affinity means"


def _repelled(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    for claim in ask.kin.claims:
        if claim.sort == "apart":
            yield (
                "node(s) didn't satisfy existing pods anti-affinity rules",
                _near(claim.counts, claim.pods.topology_key, table, rows) > 0,
            )


def _too_near(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    for pods, tally in ask.company.apart:
        yield (
            "node(s) didn't match pod anti-affinity rules",
            _near(tally.counts, pods.topology_key, table, rows) > 0,
        )


def _too_far(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    """The first of a group that asks for its own company may go anywhere that has the labels."""
    tally = ask.company.beside_all
    if tally is None:
        return
    first = not tally.counts.any() and all(
        term.means(ask.kin.who, ask.kin.labels, table.census.namespaces) for term in tally.terms
    )
    for pods in ask.company.beside:
        if first:
            away = table.column(pods.topology_key).ids[: table.top][rows] == 0
        else:
            away = _near(tally.counts, pods.topology_key, table, rows) == 0
        yield "node(s) didn't match pod affinity rules", away


def in_company(ask: Ask, table: Table, rows: Rows) -> Ratings | None:
    """Rate nodes by the Pod's own wishes and those of the Pods that are there."""
    wishes = [
        (wish.weight, tally.counts, wish.pods.topology_key) for wish, tally in ask.company.wishes
    ]
    wishes += [
        (1, claim.counts, claim.pods.topology_key)
        for claim in ask.kin.claims
        if claim.sort == "wish"
    ]
    if not wishes:
        return None
    total = np.zeros(count(table, rows))
    for weight, counts, key in wishes:
        total += weight * _near(counts, key, table, rows)
    most, least = total.max(initial=-np.inf), total.min(initial=np.inf)
    return (total - least) * (100.0 / (most - least)) if most > least else None


def _near(counts: Amounts, key: str, table: Table, rows: Rows) -> Totals:
    """Return for each node the sum of *counts* in its domain, 0 where it is in none."""
    column: LabelColumn = table.column(key)
    ids = column.ids[: table.top]
    if not column.shared:
        own: Totals = np.where(ids[rows] > 0, counts[: table.top][rows], 0)
        return own
    totals = _totals(ids, counts[: table.top], column.width)
    totals[0] = 0
    near: Totals = totals[ids[rows]]
    return near


def _totals(ids: Index, counts: Amounts, width: int) -> Totals:
    """Return the sum of *counts* by domain."""
    return np.bincount(ids, weights=counts, minlength=width).astype(np.float64, copy=False)


def _place(pods: PodTerm, table: Table, row: int) -> str:
    return f"{pods.topology_key}={table.labels[row].get(pods.topology_key, '')}"
