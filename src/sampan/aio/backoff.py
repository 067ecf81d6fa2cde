"""How long to wait before trying again: short at first, doubling, never past a cap."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds; without jitter, so that tests and stories can tell them beforehand."""

    first: float = 0.005
    cap: float = 60.0

    def delay(self, failures: int) -> float:
        """Return the pause after *failures* failed attempts in a row (1 is the first)."""
        doublings = min(failures - 1, 62)  # beyond that a float only grows, and no cap is so high
        return min(self.first * 2.0**doublings, self.cap)
