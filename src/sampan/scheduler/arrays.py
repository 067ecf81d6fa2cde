"""Arrays over nodes, and labels as numbers."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sampan.api.selectors import Requirement

Mask: TypeAlias = NDArray[np.bool_]
Amounts: TypeAlias = NDArray[np.int64]
Ratings: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = Index | slice
"""Which nodes are meant: all of them as a slice, which copies nothing, or some by number."""


class LabelColumn:
    """One label of all nodes; values are numbered from 1, and 0 is a node without it."""

    def __init__(self, size: int) -> None:
        self.ids = np.zeros(size, np.int64)
        self.values: dict[str, int] = {}
        self.members = [0]
        self.shared = 0
        """How many values more than one node has."""

    @property
    def width(self) -> int:
        return len(self.members)

    def set(self, row: int, value: str | None) -> None:
        self._count(int(self.ids[row]), -1)
        number = 0
        if value is not None and (number := self.values.get(value, 0)) == 0:
            number = self.values[value] = len(self.members)
            self.members.append(0)
        self.ids[row] = number
        self._count(number, 1)

    def _count(self, number: int, by: int) -> None:
        if number:
            before = self.members[number]
            self.members[number] = before + by
            self.shared += (before + by > 1) - (before > 1)

    def satisfying(self, requirement: Requirement, rows: Rows) -> Mask:
        """Say which nodes satisfy *requirement*, asking once for each value and not each node."""
        verdicts = np.zeros(self.width, np.bool_)
        match requirement.operator:
            case "In" | "NotIn":
                numbers = [self.values[v] for v in requirement.values if v in self.values]
                verdicts[numbers] = True
                if requirement.operator == "NotIn":
                    np.logical_not(verdicts, out=verdicts)
            case "Exists":
                verdicts[1:] = True
            case "DoesNotExist":
                verdicts[0] = True
            case _:
                for value, number in self.values.items():
                    verdicts[number] = requirement.matches({requirement.key: value})
        return verdicts[self.ids[rows]]
