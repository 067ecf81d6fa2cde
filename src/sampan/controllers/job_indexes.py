"""Sets of completion indexes, written as Jobs write them: `0-2,5,7-9`."""

from collections.abc import Iterable
from typing import Final

from sampan.api.objects import Pod

INDEX: Final = "batch.kubernetes.io/job-completion-index"
"""The annotation and label in which a Pod carries its index."""


def parse(text: str, below: int) -> frozenset[int]:
    """Read the indexes in *text* that are smaller than *below*."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), min(int(last or first), below - 1) + 1))
    return frozenset(found)


def written(indexes: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(_run(first, last) for first, last in runs)


def _run(first: int, last: int) -> str:
    """Two neighbours are listed, more make a range."""
    if first == last:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}-{last}"


def index_of(pod: Pod) -> int | None:
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isdecimal() else None
