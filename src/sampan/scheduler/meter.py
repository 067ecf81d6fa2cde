"""How long each rule takes, so that none is slow in secret."""

from collections.abc import Callable
from dataclasses import dataclass, field


def no_clock() -> float:
    return 0.0


@dataclass(slots=True)
class Spent:
    calls: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Meter:
    """*clock* tells seconds; without one, only calls are counted."""

    clock: Callable[[], float] = no_clock
    rules: dict[str, Spent] = field(default_factory=dict)

    def add(self, rule: str, since: float) -> None:
        """Add a call of *rule* that began at *since*."""
        spent = self.rules.get(rule)
        if spent is None:
            spent = self.rules[rule] = Spent()
        spent.calls += 1
        spent.seconds += self.clock() - since
