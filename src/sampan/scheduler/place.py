"""Put Pods on nodes: pure arithmetic on columns, the same answer for the same history.

Every placement is assumed in the table at once, so that the next Pod sees it. Pods that ask the
same share their ratings: after one is placed, only the row that it went to is rated again.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np

from sampan.scheduler.arrays import Index, Mask, Ratings, Rows
from sampan.scheduler.ask import NOWHERE, Ask, bind, release
from sampan.scheduler.columns import Table
from sampan.scheduler.company import rows_of
from sampan.scheduler.demand import Demand
from sampan.scheduler.meter import Meter
from sampan.scheduler.profile import DEFAULT, DEFAULT_NAME, Profiles, profile_for
from sampan.scheduler.rules import Filter, Score
from sampan.scheduler.standing import count

KEPT: Final = 256
"""How many different demands keep their ratings; each costs some 16 bytes a node."""

LONG_MEMORY: Final = 65_536
"""After how many moves of Pods the record of them is begun anew."""

ONLY_DEFAULT: Final[Profiles] = {DEFAULT_NAME: DEFAULT}

HARDLY: Final = 1e-6
"""What the tie-break may add at most: less than any real difference between two nodes."""


@dataclass(frozen=True, slots=True)
class Placed:
    uid: str
    demand: Demand
    node: str
    devices: tuple[int, ...] = ()
    """The numbers of its GPUs on the node."""


@dataclass(frozen=True, slots=True)
class Refused:
    uid: str
    demand: Demand


class Placer:
    """Places Pods in *table*, each by the profile of its scheduler."""

    def __init__(
        self, table: Table, profiles: Profiles = ONLY_DEFAULT, meter: Meter | None = None
    ) -> None:
        """The first of *profiles* is for Pods whose scheduler has none."""
        self.table = table
        self.profiles = profiles
        self.meter = meter or Meter()
        self.nominated: dict[str, str] = {}
        """The node that each Pod is promised for which others make room, by uid."""
        self._asks: OrderedDict[bytes, Ask] = OrderedDict()
        self._order = np.zeros(0)

    def place(self, pods: Iterable[tuple[str, Demand]]) -> Iterator[Placed | Refused]:
        """Place each Pod, given by uid and demand, before the next one is asked for."""
        for uid, demand in pods:
            row = self._promised(uid, demand) if uid in self.nominated else None
            if row is None:
                row = self.best(self.ask(demand))
            if row is None:
                if uid in self.nominated:
                    self.table.reserve(uid, demand, self.nominated[uid])
                yield Refused(uid, demand)
                continue
            self.nominated.pop(uid, None)
            node = self.table.names[row]
            held = self.table.add(uid, demand, node, devices=self._devices(demand, row))
            self.table.latest = row
            self.table.placements += 1
            yield Placed(uid, demand, node, held.devices)

    def _devices(self, demand: Demand, row: int) -> tuple[int, ...]:
        """Let the profile choose GPUs, if it minds; () leaves that to the table."""
        if not demand.gpus[0]:
            return ()
        if self.table.workload.note(demand):
            self.table.standing += 1  # what a fragment is has changed for everybody
        choose = profile_for(demand, self.profiles).policy.devices
        return choose(demand, self.table, row) if choose else ()

    def nominate(self, uid: str, demand: Demand, node: str) -> None:
        """Keep the room on *node* that others make for a Pod."""
        self.table.reserve(uid, demand, node)
        self.nominated[uid] = node

    def denominate(self, uid: str) -> bool:
        """Give up what is promised to a Pod; say whether that was anything."""
        if self.nominated.pop(uid, None) is None:
            return False
        self.table.unreserve(uid)
        return True

    def fits(self, ask: Ask, row: int) -> bool:
        """Say whether the node in *row* takes a Pod, given that its standing is right."""
        here = np.array([row])
        rules = (*ask.profile.room.filters, *ask.profile.each_filters)
        return not any(refused[0] for rule in rules for refused in self._refused(rule, ask, here))

    def _promised(self, uid: str, demand: Demand) -> int | None:
        """Return the row that a Pod was promised if it can have it now."""
        row = self.table.rows.get(self.nominated[uid])
        self.table.unreserve(uid)
        ask = self.ask(demand)
        if row is None or row not in positions(ask.rows) or not self.fits(ask, row):
            return None
        return row

    def ask(self, demand: Demand) -> Ask:
        """Return *demand* bound to the table, its standing and room ratings up to date."""
        ask = self._asks.get(demand.signature)
        if ask is None:
            ask = self._asks[demand.signature] = bind(
                demand, self.table, profile_for(demand, self.profiles)
            )
            if len(self._asks) > KEPT:
                release(self._asks.popitem(last=False)[1], self.table)
        else:
            self._asks.move_to_end(demand.signature)
        self._refresh(ask)
        return ask

    def ratings(self, ask: Ask) -> Mapping[str, float]:
        """Return what every node that would take *ask* is worth, by name."""
        ratings = self._in_company(ask)
        feasible = np.flatnonzero(ratings > NOWHERE)
        rows = picked(ask.rows, feasible)
        return {
            self.table.names[row]: rating
            for row, rating in zip(rows.tolist(), ratings[feasible].tolist(), strict=True)
        }

    # ---- the best row

    def best(self, ask: Ask) -> int | None:
        """Return the row of the best node for *ask*, None if no node takes it."""
        if not ask.base.size:
            return None
        ratings = self._in_company(ask)
        best = int(ratings.argmax())
        if ratings[best] == NOWHERE:
            return None
        return best if isinstance(ask.rows, slice) else int(ask.rows[best])

    def _in_company(self, ask: Ask) -> Ratings:
        """Return the base ratings with what the neighbours add and forbid."""
        base = ask.base
        for rule in ask.profile.each_filters:
            for refused in self._refused(rule, ask, ask.rows):
                base = np.where(refused, NOWHERE, base)
        if not (
            ask.company.soft or ask.company.wishes or ask.kin.claims or ask.profile.asked_each_time
        ):
            return base
        feasible = np.flatnonzero(base > NOWHERE)
        rows = ask.rows if feasible.size == base.size else picked(ask.rows, feasible)
        added = self._rated(ask.profile.each_scores, ask, rows)
        if added is None:
            return base
        ratings = base.copy()
        ratings[feasible] += added
        return ratings

    # ---- what lasts longer than one Pod

    def _refresh(self, ask: Ask) -> None:
        table = self.table
        if len(table.moves) > LONG_MEMORY:
            table.forget_moves()
        if ask.standing != table.standing:
            self._stand(ask)
            self._room(ask)
        elif ask.seen < table.forgotten:
            self._room(ask)
        elif moved := table.moves[ask.seen - table.forgotten :]:
            self._move(ask, moved)
        ask.seen = table.forgotten + len(table.moves)

    def _stand(self, ask: Ask) -> None:
        """Ask the standing rules about every node."""
        table = self.table
        ask.standing = table.standing
        ask.domains.clear()
        mask: Mask = table.alive[: table.top].copy()
        everything = slice(0, table.top)
        for rule in ask.profile.standing.filters:
            for refused in self._refused(rule, ask, everything):
                mask &= ~refused
        ask.rows = rows_of(mask)
        worth = self._ties(ask)[ask.rows]
        rated = self._rated(ask.profile.standing_scores, ask, ask.rows)
        ask.worth = worth if rated is None else worth + rated

    def _room(self, ask: Ask) -> None:
        ask.base = self._with_room(ask, ask.rows, ask.worth)

    def _move(self, ask: Ask, moved: list[int]) -> None:
        """Rate again the rows where Pods came or went."""
        if len(moved) > 1 and len(moved) * 4 > count(self.table, ask.rows):
            self._room(ask)
            return
        rows = np.array(moved if len(moved) == 1 else sorted(set(moved)), np.int64)
        where = rows
        if not isinstance(ask.rows, slice):
            where = np.searchsorted(ask.rows, rows)
            where[where == ask.rows.size] = 0
            ours = ask.rows[where] == rows if ask.rows.size else np.zeros(rows.size, np.bool_)
            rows, where = rows[ours], where[ours]
        if rows.size:
            ask.base[where] = self._with_room(ask, rows, ask.worth[where])

    def _with_room(self, ask: Ask, rows: Rows, worth: Ratings) -> Ratings:
        rated = self._rated(ask.profile.room_scores, ask, rows)
        ratings = worth.copy() if rated is None else worth + rated
        for rule in ask.profile.room.filters:
            for refused in self._refused(rule, ask, rows):
                ratings[refused] = NOWHERE
        return ratings

    def _refused(self, rule: Filter, ask: Ask, rows: Rows) -> list[Mask]:
        begun = self.meter.clock()
        masks = [mask for _, mask in rule.refuses(ask, self.table, rows)]
        self.meter.add(rule.name, begun)
        return masks

    def _rated(self, scores: Iterable[Score], ask: Ask, rows: Rows) -> Ratings | None:
        total: Ratings | None = None
        for score in scores:
            begun = self.meter.clock()
            rates = score.rates(ask, self.table, rows)
            self.meter.add(score.name, begun)
            if rates is not None:
                rates = rates * score.weight if score.weight != 1 else rates
                total = rates if total is None else total + rates
        return total

    def _ties(self, ask: Ask) -> Ratings:
        """Return an order among equal nodes; it is another one for every demand.

        So no node is everybody's first choice.
        """
        top = self.table.top
        if self._order.size < 2 * top:
            order = np.random.default_rng(0).permutation(self.table.alive.size)
            self._order = np.tile(order * (HARDLY / order.size), 2)
        offset = crc32(ask.demand.signature) % max(top, 1)
        return self._order[offset : offset + top]


def positions(rows: Rows) -> range | Index:
    return range(rows.stop) if isinstance(rows, slice) else rows


def picked(rows: Rows, which: Index) -> Index:
    """Return the rows at positions *which* of *rows*."""
    return which if isinstance(rows, slice) else rows[which]
