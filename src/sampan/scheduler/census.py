"""How many Pods of which sort are on each node, counted as they come and go.

Rules about neighbours ask two things: how many Pods that a term means are on a node (a `Tally`),
and whose own terms mean this Pod (a `Claim`). Both are one array over the nodes, and both are
found from a Pod by its `Kin`: all Pods that other Pods' rules cannot tell apart.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sampan.api.selectors import Labels
from sampan.scheduler.demand import Demand
from sampan.scheduler.terms import PodTerm, Term, Who

Counts: TypeAlias = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Tally:
    """Pods on each node that all of *terms* mean; *staying* leaves out those that are leaving."""

    terms: tuple[Term, ...]
    staying: bool
    counts: Counts
    uses: int = 0


@dataclass(slots=True, eq=False)
class Claim:
    """What Pods on each node demand of (or wish for) others near them, as a sum of weights."""

    pods: PodTerm
    sort: Literal["apart", "wish"]
    counts: Counts
    holders: int = 0


@dataclass(slots=True, eq=False)
class Kin:
    who: Who
    labels: Labels
    rows: dict[int, int] = field(default_factory=dict)
    leaving: dict[int, int] = field(default_factory=dict)
    tallies: list[Tally] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    uses: int = 0


class Census:
    """Keeps every count for a table of *size* rows."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.namespaces: dict[str, Labels] = {}
        self._kin: dict[Who, Kin] = {}
        self._in_namespace: defaultdict[str, dict[Who, Kin]] = defaultdict(dict)
        self._of_owner: defaultdict[str, dict[Who, Kin]] = defaultdict(dict)
        self._tallies: dict[tuple[tuple[Term, ...], bool], Tally] = {}
        self._local: defaultdict[str, list[Tally]] = defaultdict(list)
        self._claims: dict[tuple[PodTerm, str], Claim] = {}

    def grow(self, size: int) -> None:
        more = size - self._size
        self._size = size
        wider = np.zeros(more, np.int64)
        for tally in self._tallies.values():
            tally.counts = np.concatenate([tally.counts, wider])
        for claim in self._claims.values():
            claim.counts = np.concatenate([claim.counts, wider])

    # ---- Pods

    def came(self, demand: Demand, row: int, *, leaving: bool) -> Kin:
        kin = self.use_kin(demand)
        _count(kin.rows, row, 1)
        if leaving:
            _count(kin.leaving, row, 1)
        for tally in kin.tallies:
            if not (leaving and tally.staying):
                tally.counts[row] += 1
        self.claim(demand, row, 1)
        return kin

    def went(self, kin: Kin, demand: Demand, row: int, *, leaving: bool) -> None:
        _count(kin.rows, row, -1)
        if leaving:
            _count(kin.leaving, row, -1)
        for tally in kin.tallies:
            if not (leaving and tally.staying):
                tally.counts[row] -= 1
        self.claim(demand, row, -1)
        self.release_kin(kin)

    def claim(self, demand: Demand, row: int, sign: int) -> None:
        """Count (or, with -1, no longer count) what *demand* claims of neighbours of *row*."""
        for pods, sort, weight in _claims(demand):
            claim = self._claims.get((pods, sort)) or self._new_claim(pods, sort)
            claim.counts[row] += sign * weight
            claim.holders += sign
            if not claim.holders:
                self._drop_claim(claim)

    def _new_claim(self, pods: PodTerm, sort: Literal["apart", "wish"]) -> Claim:
        claim = Claim(pods, sort, np.zeros(self._size, np.int64))
        self._claims[pods, sort] = claim
        for kin in self._meant((pods.term,)):
            kin.claims.append(claim)
        return claim

    def _drop_claim(self, claim: Claim) -> None:
        del self._claims[claim.pods, claim.sort]
        for kin in self._meant((claim.pods.term,)):
            kin.claims.remove(claim)

    # ---- who is counted

    def use_kin(self, demand: Demand) -> Kin:
        """Return the kin of *demand*; give it back by `release_kin`."""
        kin = self._kin.get(demand.who)
        if kin is None:
            kin = self._new_kin(demand.who, demand.labels)
        kin.uses += 1
        return kin

    def release_kin(self, kin: Kin) -> None:
        kin.uses -= 1
        if kin.uses:
            return
        del self._kin[kin.who]
        for index, key in (
            (self._in_namespace, kin.who.namespace),
            (self._of_owner, kin.who.owner),
        ):
            del index[key][kin.who]
            if not index[key]:
                del index[key]

    def _new_kin(self, who: Who, labels: Labels) -> Kin:
        kin = Kin(who, labels)
        self._kin[who] = kin
        self._in_namespace[who.namespace][who] = kin
        self._of_owner[who.owner][who] = kin
        for place in (f"namespace {who.namespace}", f"owner {who.owner}", "anywhere"):
            for tally in self._local.get(place, ()):
                if self._means(tally.terms, kin):
                    kin.tallies.append(tally)
        kin.claims = [c for c in self._claims.values() if self._means((c.pods.term,), kin)]
        return kin

    def use_tally(self, *terms: Term, staying: bool) -> Tally:
        """Return the tally of Pods that all *terms* mean; give it back by `release_tally`."""
        tally = self._tallies.get((terms, staying))
        if tally is None:
            tally = self._new_tally(terms, staying=staying)
        tally.uses += 1
        return tally

    def release_tally(self, tally: Tally) -> None:
        tally.uses -= 1
        if tally.uses:
            return
        del self._tallies[tally.terms, tally.staying]
        place = _place(tally.terms[0])
        self._local[place].remove(tally)
        if not self._local[place]:
            del self._local[place]
        for kin in self._meant(tally.terms):
            kin.tallies.remove(tally)

    def _new_tally(self, terms: tuple[Term, ...], *, staying: bool) -> Tally:
        tally = Tally(terms, staying, np.zeros(self._size, np.int64))
        self._tallies[terms, staying] = tally
        self._local[_place(terms[0])].append(tally)
        for kin in self._meant(terms):
            kin.tallies.append(tally)
            _fill(tally, kin)
        return tally

    def _meant(self, terms: tuple[Term, ...]) -> Iterator[Kin]:
        return (kin for kin in self._near(terms[0]) if self._means(terms, kin))

    def _near(self, term: Term) -> Iterator[Kin]:
        """Yield all kin that *term* could mean, and not many more."""
        if term.owner:
            yield from self._of_owner.get(term.owner, {}).values()
        elif term.namespace_selector is not None:
            yield from self._kin.values()
        else:
            for namespace in term.namespaces:
                yield from self._in_namespace.get(namespace, {}).values()

    def _means(self, terms: tuple[Term, ...], kin: Kin) -> bool:
        return all(term.means(kin.who, kin.labels, self.namespaces) for term in terms)

    # ---- namespaces

    def set_namespace(self, name: str, labels: Labels | None) -> bool:
        """Take over a namespace's labels, None when it is gone; say whether any count changed."""
        if self.namespaces.get(name) == labels:
            return False
        if labels is None:
            del self.namespaces[name]
        else:
            self.namespaces[name] = labels
        by_labels = any(
            term.namespace_selector is not None
            for terms in (*(t.terms for t in self._tallies.values()), *self._claim_terms())
            for term in terms
        )
        return by_labels and self._recount(name)

    def _claim_terms(self) -> Iterator[tuple[Term, ...]]:
        return ((claim.pods.term,) for claim in self._claims.values())

    def _recount(self, namespace: str) -> bool:
        """Ask anew which tallies and claims mean the Pods of *namespace*."""
        changed = False
        for kin in self._in_namespace.get(namespace, {}).values():
            for tally in self._tallies.values():
                was, now = tally in kin.tallies, self._means(tally.terms, kin)
                if was != now:
                    changed = True
                    _fill(tally, kin, 1 if now else -1)
                    (kin.tallies.append if now else kin.tallies.remove)(tally)
            claims = [c for c in self._claims.values() if self._means((c.pods.term,), kin)]
            changed = changed or claims != kin.claims
            kin.claims = claims
        return changed


def _claims(demand: Demand) -> Iterator[tuple[PodTerm, Literal["apart", "wish"], int]]:
    """Yield what *demand* claims of later neighbours.

    A Pod that must be near others is taken to like being found by them too, with weight 1
    (kube-scheduler's hardPodAffinityWeight).
    """
    for pods in demand.anti_affinity:
        yield pods, "apart", 1
    for pods in demand.affinity:
        yield pods, "wish", 1
    for wish in demand.preferred_pods:
        yield wish.pods, "wish", wish.weight


def _place(term: Term) -> str:
    """Name where the Pods that *term* means can be found."""
    if term.owner:
        return f"owner {term.owner}"
    if term.namespace_selector is None and len(term.namespaces) == 1:
        (namespace,) = term.namespaces
        return f"namespace {namespace}"
    return "anywhere"


def _fill(tally: Tally, kin: Kin, sign: int = 1) -> None:
    for row, count in kin.rows.items():
        tally.counts[row] += sign * count
    if tally.staying:
        for row, count in kin.leaving.items():
            tally.counts[row] -= sign * count


def _count(rows: dict[int, int], row: int, by: int) -> None:
    if left := rows.get(row, 0) + by:
        rows[row] = left
    else:
        del rows[row]
