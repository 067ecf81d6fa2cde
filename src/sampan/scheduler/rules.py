"""What a rule is: a plain function over node columns, and what its answer depends on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from sampan.scheduler.arrays import Mask, Ratings, Rows
from sampan.scheduler.ask import Ask
from sampan.scheduler.columns import Table


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
