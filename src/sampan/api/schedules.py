"""Schedules of CronJobs: five cron fields, `@daily` and its kin, or `@every 1h30m`; in a time zone.

Fields are read by cronsim, as Debian's cron reads them: what was to run in an hour that a change
to summer time skips runs right after it, and what is in the hour that comes twice runs once.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY: Final = re.compile(r"@every (?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_FIELD: Final = re.compile(r"[0-9A-Za-z*/,-]+")
_FIELDS: Final = 5
_MANY: Final = 100
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Schedule:
    """When something is due. Making one raises ValueError for what it cannot read."""

    def __init__(self, text: str, zone: str = "") -> None:
        self._zone = time_zone(zone) if zone else UTC
        self._every = _every(text)
        self._fields = "" if self._every else _fields(text)

    def after(self, at: datetime) -> datetime:
        """Return the first time after *at*."""
        if self._every:
            return at.replace(microsecond=0) + self._every
        return next(self._from(at))

    def due(self, since: datetime, until: datetime) -> tuple[datetime | None, bool]:
        """Return the last time after *since* up to *until*, and whether very many have passed."""
        latest = None
        for _ in range(_MANY + 1):
            following = self.after(latest or since)
            if following > until:
                return latest, False
            latest = following
        return self._last(latest or since, until), True

    def _last(self, since: datetime, until: datetime) -> datetime:
        if self._every:
            return since + (until - since) // self._every * self._every
        backwards = CronSim(self._fields, until + timedelta(seconds=1), reverse=True)
        return next(backwards).astimezone(self._zone)

    def _from(self, at: datetime) -> Iterator[datetime]:
        return CronSim(self._fields, at.astimezone(self._zone))


def time_zone(name: str) -> ZoneInfo:
    """Find a zone by its name in the IANA database; "Local" means nothing to a cluster."""
    try:
        if name != "Local":
            return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        pass
    raise ValueError(f"unknown time zone {name}")


def _every(text: str) -> timedelta | None:
    if match := _EVERY.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return timedelta(hours=hours, minutes=minutes, seconds=seconds) or None
    return None


def _fields(text: str) -> str:
    fields = _NAMED.get(text, text).replace("?", "*").split()
    if len(fields) != _FIELDS:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{text}]")
    for field in fields:
        if not _FIELD.fullmatch(field) or "L" in field.upper().replace("JUL", ""):
            raise ValueError(f"cannot read {field!r} in [{text}]")
    written = " ".join(fields)
    try:
        next(CronSim(written, _SOME_DAY))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"{error or 'no such day'}: [{text}]") from error
    return written
