from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.schedules import Schedule

NOON = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "next_"),
    [
        ("* * * * *", "2026-01-01T12:01:00"),
        ("*/15 * * * *", "2026-01-01T12:15:00"),
        ("0 3 * * *", "2026-01-02T03:00:00"),
        ("0 3 ? * MON", "2026-01-05T03:00:00"),
        ("0 0 1 JUL *", "2026-07-01T00:00:00"),
        ("0 0 13 * 5", "2026-01-02T00:00:00"),
        ("@daily", "2026-01-02T00:00:00"),
        ("@every 1h30m", "2026-01-01T13:30:30"),
    ],
)
def test_the_next_time(text: str, next_: str) -> None:
    assert Schedule(text).after(NOON) == datetime.fromisoformat(next_).replace(tzinfo=UTC)


def test_a_schedule_counts_in_its_time_zone() -> None:
    berlin = Schedule("0 3 * * *", "Europe/Berlin")
    winter, summer = berlin.after(NOON), berlin.after(NOON + timedelta(days=180))
    assert (winter.astimezone(UTC).hour, summer.astimezone(UTC).hour) == (2, 1)
    assert winter.isoformat() == "2026-01-02T03:00:00+01:00"


def test_an_hour_that_summer_time_skips_runs_right_after_it() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    at = Schedule("30 2 * * *", "Europe/Berlin").after(before)
    assert at.astimezone(UTC) == datetime(2026, 3, 29, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("", ""),
        ("* * * *", ""),
        ("60 * * * *", ""),
        ("* * * * * *", ""),
        ("0 0 L * *", ""),
        ("0 0 30 2 *", ""),
        ("@every", ""),
        ("@every 0s", ""),
        ("TZ=UTC * * * * *", ""),
        ("* * * * *", "Mars/Olympus"),
        ("* * * * *", "Local"),
        ("* * * * *", "../../etc/passwd"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, zone: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Schedule(text, zone)


@given(st.sampled_from(["*/7 * * * *", "0 */5 * * *", "@every 13m"]), st.integers(0, 10**6))
def test_the_last_due_time_is_the_last_that_iteration_finds(text: str, seconds: int) -> None:
    schedule, until = Schedule(text), NOON + timedelta(seconds=seconds)
    found, passed, many = NOON, 0, False
    while (following := schedule.after(found)) <= until:
        found, passed = following, passed + 1
        many = passed > 100
    assert schedule.due(NOON, until) == (found if passed else None, many)
