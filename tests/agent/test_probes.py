"""When a container is probed, and what comes of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from sampan.agent.probes import Answer, ProbeKind, ProbeState, first_wait, probes_of, step
from sampan.agent.spec import ContainerSpec, Probe

GOOD, BAD = Answer(True), Answer(False, "no")


def probe(**fields: Any) -> Probe:
    return convert({"tcpSocket": {"port": 80}, **fields}, Probe)


class Life:
    """A probed container whose answers change at set times."""

    def __init__(self, kind: ProbeKind, probe: Probe) -> None:
        self.kind = kind
        self.probe = probe
        self.age = first_wait(probe, 0)
        self.state = ProbeState()
        self.asked: list[float] = []
        self.reports: list[float] = []

    def live(self, until: float, answer: Answer) -> bool | None:
        """Give the same answer until that age; return the verdict."""
        while self.age < until:
            self.asked.append(round(self.age, 3))
            taken = step(self.kind, self.probe, self.state, answer, self.age)
            if taken.report:
                self.reports.append(round(self.age, 3))
            self.state = taken.state
            assert taken.wait > 0
            self.age += taken.wait
        return self.state.verdict


def test_the_first_probe_comes_at_once_or_after_the_initial_delay() -> None:
    assert first_wait(probe(), 0.0) == 0
    assert first_wait(probe(initialDelaySeconds=5), 1.5) == 3.5
    assert first_wait(probe(initialDelaySeconds=5), 9) == 0


def test_a_container_that_becomes_ready_is_found_within_a_tenth_of_a_second() -> None:
    life = Life("readiness", probe(periodSeconds=10))
    assert life.live(0.73, BAD) is False
    life.live(1.0, GOOD)
    assert life.state.verdict is True
    assert life.asked[-1] - 0.73 <= 0.1


def test_what_was_ready_is_asked_once_a_period() -> None:
    life = Life("readiness", probe(periodSeconds=10))
    life.live(25, GOOD)
    assert life.asked == [0, 10, 20]


def test_readiness_is_lost_only_after_so_many_failures_in_a_row() -> None:
    life = Life("readiness", probe(periodSeconds=1, failureThreshold=3))
    life.live(5, GOOD)
    assert life.live(6.5, BAD) is True
    assert life.live(8, BAD) is False


def test_quick_questions_never_kill_sooner() -> None:
    life = Life("startup", probe(periodSeconds=1, failureThreshold=5))
    assert life.live(3.9, BAD) is None
    assert len(life.asked) > 30
    assert life.live(4.2, BAD) is False
    assert life.reports == [0, 1, 2, 3, 4]


def test_liveness_is_asked_once_a_period_and_fails_after_its_threshold() -> None:
    life = Life("liveness", probe(periodSeconds=2, failureThreshold=2))
    life.live(3, GOOD)
    assert life.live(5, BAD) is True
    assert life.live(7, BAD) is False
    assert life.asked == [0, 2, 4, 6]


def test_one_good_answer_forgives_earlier_failures() -> None:
    life = Life("liveness", probe(periodSeconds=1, failureThreshold=2))
    life.live(1, BAD)
    life.live(2, GOOD)
    assert life.live(3, BAD) is True


def test_several_successes_are_a_period_apart() -> None:
    life = Life("readiness", probe(periodSeconds=2, successThreshold=3))
    assert life.live(3.9, GOOD) is None
    assert life.live(4.1, GOOD) is True


def test_programs_are_asked_less_often_than_sockets() -> None:
    life = Life("readiness", probe(exec={"command": ["x"]}, tcpSocket=None, periodSeconds=10))
    life.live(9, BAD)
    assert len(life.asked) < 20


@given(
    st.sampled_from(["startup", "liveness", "readiness"]),
    st.integers(1, 10),
    st.integers(1, 5),
    st.lists(st.booleans(), min_size=1, max_size=60),
)
def test_a_verdict_against_a_container_needs_its_threshold_of_periods(
    kind: ProbeKind, period: int, threshold: int, answers: list[bool]
) -> None:
    asked = probe(periodSeconds=period, failureThreshold=threshold)
    state, age, failing_since = ProbeState(verdict=True), 0.0, 0.0
    for good in answers:
        if good:
            failing_since = age
        taken = step(kind, asked, state, GOOD if good else BAD, age)
        if taken.state.verdict is False:
            assert age - failing_since >= period * (threshold - 1) - 0.01
            return
        state = taken.state
        age += taken.wait


@pytest.mark.parametrize("kind", ["startup", "liveness", "readiness"])
def test_a_containers_probes_are_found_by_their_kind(kind: str) -> None:
    raw = {"name": "c", f"{kind}Probe": {"tcpSocket": {"port": 1}}}
    assert list(probes_of(convert(raw, ContainerSpec))) == [kind]
