"""What the node's table must hold, kept up to date a Part at a time, and what changed since.

Groups get numbers here and keep them as long as they exist; where two Services claim the same
address and port, the one whose key sorts first has it, on every node and whatever came first.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sampan.net import rules
from sampan.net.compile import From, Frontend, Group, NodeFacts, Otherwise, Part, Target
from sampan.net.overlay import Peer
from sampan.net.rules import MOST_GROUPS, RETURNED, STICKY_BIT, TABLE

Slot = tuple[str, str]
"""A map or set, and a key in it."""
Elements = dict[Slot, str]
"""What is under each key; nothing in a set."""

UNSERVED: Final = {Otherwise.REJECT: "refused", Otherwise.DROP: "dropped"}


@dataclass(frozen=True, slots=True)
class Change:
    """One transaction's worth of elements, and the UDP flows that must not outlive it."""

    removed: tuple[Slot, ...]
    added: tuple[tuple[Slot, str], ...]
    gone: frozenset[Target] = frozenset()
    """UDP endpoints that serve no longer."""
    fresh: frozenset[tuple[str, int]] = frozenset()
    """UDP addresses ("" is any of the node) and ports that are served from now on."""

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)

    def commands(self) -> str:
        """The change in nft's language: first everything old goes, then everything new comes."""
        return "".join(
            [
                *_batches("delete", ((slot, "") for slot in self.removed)),
                *_batches("add", self.added),
            ]
        )


class Program:
    def __init__(self, node: NodeFacts) -> None:
        self.node = node
        self._parts: dict[str, Part] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._free: list[int] = []
        self._claims: dict[Slot, dict[str, str]] = {}
        self._known: Elements = {}
        self._pending: Elements = {}
        """The touched slots as the kernel has them; "?" where it has none."""
        self._gone: set[Target] = set()
        self._fresh: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        """How many elements there are."""
        return len(self._claims)

    def put(self, key: str, part: Part) -> None:
        """File *part* under *key* in place of what is there; an empty one removes it."""
        old = self._parts.get(key, ())
        if part == old:
            return
        before = self._elements(key, old)
        self._number(key, old, part)
        after = self._elements(key, part)
        for slot in before.keys() - after.keys():
            self._claim(slot, key, None)
        for slot, value in after.items():
            if before.get(slot) != value:
                self._claim(slot, key, value)
        self._note_flows(old, part)
        if part:
            self._parts[key] = part
        else:
            self._parts.pop(key, None)

    def know(self, peers: Iterable[Peer]) -> None:
        """Say which other nodes there are."""
        known: Elements = {}
        for peer in peers:
            known["nodes", str(peer.address)] = ""
            known["returns", peer.mac] = f"{RETURNED | peer.number:#x}"
        for slot in self._known.keys() - known.keys():
            self._claim(slot, "", None)
        for slot, value in known.items():
            if self._known.get(slot) != value:
                self._claim(slot, "", value)
        self._known = known

    def take(self) -> Change:
        """Return what changed since the last time."""
        removed, added = [], []
        for slot, was in self._pending.items():
            now = self._value(slot)
            if now == was:
                continue
            if was != _ABSENT:
                removed.append(slot)
            if now != _ABSENT:
                added.append((slot, now))
        change = Change(tuple(removed), tuple(added), frozenset(self._gone), frozenset(self._fresh))
        self._pending, self._gone, self._fresh = {}, set(), set()
        return change

    def whole(self) -> str:
        """The commands that make the table what it must be, whatever it was."""
        elements = ((slot, self._value(slot)) for slot in self._claims)
        fresh = f"add table {TABLE}\ndelete table {TABLE}\n{rules.base(self.node)}"
        return fresh + "".join(_batches("add", elements))

    def udp(self) -> tuple[set[Target], set[tuple[str, int]]]:
        """All UDP targets, and all addresses and ports that lead to one."""
        both = [_udp(part) for part in self._parts.values()]
        return {t for targets, _ in both for t in targets}, {f for _, fs in both for f in fs}

    def elements(self) -> Elements:
        return {slot: self._value(slot) for slot in self._claims}

    def _value(self, slot: Slot) -> str:
        claims = self._claims.get(slot)
        return claims[min(claims)] if claims else _ABSENT

    def _claim(self, slot: Slot, key: str, value: str | None) -> None:
        self._pending.setdefault(slot, self._value(slot))
        claims = self._claims.setdefault(slot, {})
        if value is not None:
            claims[key] = value
        else:
            claims.pop(key, None)
        if not claims:
            del self._claims[slot]

    def _number(self, key: str, old: Part, new: Part) -> None:
        wanted = {group.name for group in new if group.targets}
        for group in old:
            if group.name not in wanted and group.targets:
                self._free.append(self._numbers.pop((key, group.name)))
        for name in sorted(wanted):
            if (key, name) not in self._numbers:
                self._numbers[key, name] = self._free.pop() if self._free else self._next()

    def _next(self) -> int:
        number = len(self._numbers) + 1
        if number > MOST_GROUPS:
            raise OverflowError(f"more than {MOST_GROUPS} Service ports")
        return number

    def _elements(self, key: str, part: Part) -> Elements:
        return {
            slot: value
            for group in part
            for slot, value in _elements(group, self._numbers.get((key, group.name), 0))
        }

    def _note_flows(self, old: Part, new: Part) -> None:
        (before, was), (after, now) = _udp(old), _udp(new)
        self._gone |= before - after
        self._gone -= after
        self._fresh |= now - was


_ABSENT: Final = "?"


def _elements(group: Group, number: int) -> Iterator[tuple[Slot, str]]:
    for frontend in group.frontends:
        if frontend.sources is not None:
            _, key = _slot("", frontend)
            yield ("fenced_vips", key), ""
            yield from ((("sources", f"{key} . {source}"), "") for source in frontend.sources)
    if not group.targets:
        for frontend in group.frontends:
            yield _slot(UNSERVED[group.otherwise], frontend), ""
        return
    mark = number | STICKY_BIT if group.sticky else number
    for frontend in group.frontends:
        outside = "outside_" if frontend.clients is From.OUTSIDE else ""
        yield _slot(outside, frontend), f"{mark:#x}"
    chain = rules.choice(len(group.targets), sticky=group.sticky)
    yield ("groups", f"{mark:#x}"), f"goto {chain}"
    for upper, target in rules.slots(group.targets, sticky=group.sticky):
        yield ("endpoints", f"{upper | mark:#x}"), f"{target.address} . {target.port}"


def _slot(prefix: str, frontend: Frontend) -> Slot:
    """The map or set that answers for *frontend*, and its key there."""
    start = prefix if prefix.endswith("_") or not prefix else f"{prefix}_"
    port = f"{frontend.protocol.lower()} . {frontend.port}"
    if frontend.address:
        return f"{start}vips", f"{frontend.address} . {port}"
    return f"{start}ports", port


def _udp(part: Part) -> tuple[set[Target], set[tuple[str, int]]]:
    """The UDP targets of a Part, and the frontends that have some."""
    served = [g for g in part if g.targets and g.frontends[0].protocol == "UDP"]
    fronts = {(f.address, f.port) for group in served for f in group.frontends}
    return {target for group in served for target in group.targets}, fronts


def _batches(verb: str, elements: Iterable[tuple[Slot, str]]) -> Iterator[str]:
    """One command a map: nft takes any number of elements at once."""
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for (name, key), value in elements:
        grouped[name].append(f"{key} : {value}" if value else key)
    for name, texts in grouped.items():
        yield f"{verb} element {TABLE} {name} {{ {', '.join(texts)} }}\n"
