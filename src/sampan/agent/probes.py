"""When to probe a container and what its answers mean; pure.

Kubernetes probes once a period, so a container that is ready just after a probe waits for the next.
Here a container that has just started is asked again after a tenth of a second, but only what a
period's probe says counts towards a failure threshold, so nothing is killed sooner.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from sampan.agent.spec import ContainerSpec, Probe

ProbeKind = Literal["startup", "liveness", "readiness"]

QUICK: Final = 0.1
"""Seconds between probes of what has just started."""
QUICK_FOR: Final = 10.0
"""Seconds for which a container counts as just started."""
_PRECISION: Final = 0.001


class Answer(Struct, frozen=True):
    ok: bool
    message: str = ""


class ProbeState(Struct, frozen=True, kw_only=True):
    """What a row of answers has come to."""

    verdict: bool | None = None
    """None until the threshold of either side is reached for the first time."""
    successes: int = 0
    failures: int = 0
    due: float = 0.0
    """When the next probe that counts is due, in seconds of the container's life."""


class Step(Struct, frozen=True):
    """*report* is what to tell of a failure that counts; "" if there is nothing to tell."""

    state: ProbeState
    wait: float
    report: str = ""


def probes_of(container: ContainerSpec) -> Mapping[ProbeKind, Probe]:
    found: dict[ProbeKind, Probe | None] = {
        "startup": container.startup_probe,
        "liveness": container.liveness_probe,
        "readiness": container.readiness_probe,
    }
    return {kind: probe for kind, probe in found.items() if probe}


def first_wait(probe: Probe, age: float) -> float:
    """How long a container of that *age*, in seconds, has until its first probe."""
    return max(probe.initial_delay_seconds - age, 0.0)


def step(kind: ProbeKind, probe: Probe, state: ProbeState, answer: Answer, age: float) -> Step:
    """Take one answer, given when the container was *age* seconds old, into account."""
    counts = age >= state.due - _PRECISION
    due = age + probe.period_seconds if counts else state.due
    if answer.ok:
        successes = state.successes + 1
        verdict = True if successes >= probe.success_threshold else state.verdict
        return Step(ProbeState(verdict=verdict, successes=successes, due=due), due - age)
    failures = state.failures + 1 if counts else state.failures
    verdict = False if counts and failures >= probe.failure_threshold else state.verdict
    if state.verdict is None and kind == "readiness":
        verdict = False
    fresh = ProbeState(verdict=verdict, failures=failures, due=due)
    wait = due - age
    if kind != "liveness" and age < QUICK_FOR and not _was_well(kind, state):
        wait = min(_quick(probe, age), wait)
    return Step(fresh, wait, answer.message if counts else "")


def _was_well(kind: ProbeKind, state: ProbeState) -> bool:
    return kind == "readiness" and state.verdict is True


def _quick(probe: Probe, age: float) -> float:
    """A probe that runs a program costs a hundred times a connection: ask it less often."""
    return max(QUICK, age / 2) if probe.exec else QUICK
