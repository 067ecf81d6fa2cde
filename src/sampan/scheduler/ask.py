"""A demand bound to a table: what the rules read, and where their answers are kept.

All Pods with the same demand share one `Ask`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sampan.scheduler.arrays import Index, Ratings, Rows
from sampan.scheduler.census import Kin, Tally
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import Demand
from sampan.scheduler.terms import PodTerm, Spread, Weighted

if TYPE_CHECKING:
    from sampan.scheduler.profile import Profile

NOWHERE: Final = -np.inf
"""The rating of a node that a filter refuses."""

NOTHING: Final[NDArray[np.float64]] = np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Company:
    """The tallies that a demand's rules about neighbours read."""

    hard: tuple[tuple[Spread, Tally], ...]
    soft: tuple[tuple[Spread, Tally], ...]
    beside: tuple[PodTerm, ...]
    beside_all: Tally | None
    """Pods that all terms of the required affinity mean: only those satisfy it."""
    apart: tuple[tuple[PodTerm, Tally], ...]
    wishes: tuple[tuple[Weighted, Tally], ...]

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """Every tally in use, once for each use."""
        paired = (*self.hard, *self.soft, *self.apart, *self.wishes)
        return (*(tally for _, tally in paired), *((self.beside_all,) if self.beside_all else ()))


@dataclass(slots=True, eq=False)
class Ask:
    demand: Demand
    profile: "Profile"
    kin: Kin
    requests: tuple[tuple[int, str, int], ...]
    """Number, name and amount of each resource."""
    company: Company

    rows: Rows = field(default_factory=lambda: slice(0, 0))
    """The nodes that are what the demand asks for, whatever runs on them."""
    worth: Ratings = field(default_factory=lambda: NOTHING)
    """How good each of these is for what it is."""
    base: Ratings = field(default_factory=lambda: NOTHING)
    """The same and how much room it has; NOWHERE where that is not enough."""
    standing: int = -1
    """The table's `standing` that all this is about."""
    seen: int = 0
    """How many of the table's moves are accounted for."""
    domains: dict[Spread, "Domains"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Domains:
    """Which nodes count for a spread constraint, and the domains that these make up."""

    rows: Rows
    ids: Index
    """The domain of each of *rows*."""
    present: NDArray[np.bool_]
    """By domain: whether it has a node that counts."""
    number: int


def bind(demand: Demand, table: Table, profile: "Profile") -> Ask:
    """Return *demand* as an Ask of *table* by *profile*; give it back by `release`."""
    census = table.census
    spreads = [
        (constraint, census.use_tally(constraint.term, staying=True))
        for constraint in demand.spreads
        if profile.policy.spreads_by_default or not constraint.by_default
    ]
    terms = (pods.term for pods in demand.affinity)
    company = Company(
        hard=tuple(pair for pair in spreads if pair[0].hard),
        soft=tuple(pair for pair in spreads if not pair[0].hard),
        beside=demand.affinity,
        beside_all=census.use_tally(*terms, staying=False) if demand.affinity else None,
        apart=tuple(
            (pods, census.use_tally(pods.term, staying=False)) for pods in demand.anti_affinity
        ),
        wishes=tuple(
            (wish, census.use_tally(wish.pods.term, staying=False))
            for wish in demand.preferred_pods
        ),
    )
    requests = tuple(
        (table.resource(name), name, value) for name, value in demand.requests.items() if value
    )
    return Ask(demand, profile, census.use_kin(demand), requests, company)


def release(ask: Ask, table: Table) -> None:
    for tally in ask.company.tallies:
        table.census.release_tally(tally)
    table.census.release_kin(ask.kin)
