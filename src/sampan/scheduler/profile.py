"""The rules in force, in order: a node is charged to the first filter that refuses it.

What a rule's answer depends on says how long the answer lasts: *standing* rules read what a node
is, *room* rules what is left of it, *company* rules who else is near.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sampan.scheduler import company, room, standing
from sampan.scheduler.ask import Ask
from sampan.scheduler.columns import Mask, Ratings, Rows, Table


class Cure(Enum):
    """What can make a refused Pod fit."""

    NODE = auto()
    """A node has come, or is not what it was."""
    POD_GONE = auto()
    POD_CAME = auto()
    NAMESPACE = auto()
    VOLUME = auto()
    """A claim or a volume is not what it was; the Pods that this concerns are read anew."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A rule that may refuse nodes: *refuses* gives reasons and masks, *detail* the numbers."""

    name: str
    refuses: Callable[[Ask, Table, Rows], Iterable[tuple[str, Mask]]]
    detail: Callable[[Ask, Table, int], str]
    cures: frozenset[Cure] = frozenset({Cure.NODE})


@dataclass(frozen=True, slots=True)
class Score:
    """A rule that rates nodes from 0 to 100; None where it has no preference."""

    name: str
    weight: float
    rates: Callable[[Ask, Table, Rows], Ratings | None]


@dataclass(frozen=True, slots=True)
class Rules:
    filters: tuple[Filter, ...] = ()
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    standing: Rules
    room: Rules
    company: Rules

    @property
    def filters(self) -> tuple[Filter, ...]:
        return (*self.standing.filters, *self.room.filters, *self.company.filters)


_ROOM: Final = frozenset({Cure.NODE, Cure.POD_GONE})
_CLAIM: Final = frozenset({Cure.NODE, Cure.VOLUME})
_SKEW: Final = _ROOM | {Cure.POD_CAME}

DEFAULT: Final = Profile(
    standing=Rules(
        filters=(
            Filter("NodeUnschedulable", standing.cordoned, standing.cordoned_detail),
            Filter("TaintToleration", standing.tainted, standing.tainted_detail),
            Filter("NodeAffinity", standing.unselected, standing.unselected_detail),
            Filter("VolumeBinding", standing.out_of_reach, standing.out_of_reach_detail, _CLAIM),
        ),
        scores=(
            Score("TaintToleration", 3, standing.few_taints),
            Score("NodeAffinity", 2, standing.preferred),
            Score("ImageLocality", 1, standing.has_images),
        ),
    ),
    room=Rules(
        filters=(
            Filter("NodePorts", room.port_taken, room.port_taken_detail, _ROOM),
            Filter("NodeResourcesFit", room.too_little, room.too_little_detail, _ROOM),
            Filter("NodeVolumeLimits", room.too_many_volumes, room.too_many_volumes_detail, _ROOM),
        ),
        scores=(
            Score("LeastAllocated", 1, room.least_allocated),
            Score("BalancedAllocation", 1, room.balanced),
        ),
    ),
    company=Rules(
        filters=(
            Filter("PodTopologySpread", company.crowded, company.crowded_detail, _SKEW),
            Filter(
                "InterPodAffinity",
                company.unwelcome,
                company.unwelcome_detail,
                _SKEW | {Cure.NAMESPACE},
            ),
        ),
        scores=(
            Score("PodTopologySpread", 2, company.evenly),
            Score("InterPodAffinity", 2, company.in_company),
        ),
    ),
)
"""Names and weights are kube-scheduler's."""
