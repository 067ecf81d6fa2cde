"""Answers from above, kept for as long as they say, and asked for once however many want them.

An answer is kept as its bytes. When it is given again, its times to live are shortened by its age,
and the question is put back as it was asked now (some resolvers check how its letters were cased).
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NamedTuple

from sampan.net.zone import NOERROR, NXDOMAIN, SOA, read

LONGEST: Final = 300
"""Seconds that an answer is kept at most, whatever it says."""
MOST: Final = 10_000
_OPT: Final = 41
_POINTER: Final = 0xC0
_RECORD: Final = struct.Struct(">HHIH")
_TTL_AT: Final = 4

Ask = Callable[[], Awaitable[bytes]]


class Kept(NamedTuple):
    answer: bytes
    since: float
    until: float
    times: tuple[int, ...]
    """Where in the answer the times to live stand."""


class Answers:
    """What was asked for lately; *now* is in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: dict[bytes, Kept] = {}
        self._flying: dict[bytes, asyncio.Future[bytes]] = {}

    async def get(self, query: bytes, ask: Ask, *, stream: bool = False) -> bytes:
        """Answer *query* from memory, or by what *ask* brings; its errors go to all who wait."""
        question = read(query)
        if question is None:
            return await ask()
        key = b"\1"[: int(stream)] + query[2:12] + question.name + query[question.end - 4 :]
        if kept := self._fresh(key):
            return self._again(kept, query, question.end - 4)
        if flight := self._flying.get(key):
            answer = await asyncio.shield(flight)
            return query[:2] + answer[2:12] + query[12 : question.end] + answer[question.end :]
        return await self._fly(key, ask, question.end)

    async def _fly(self, key: bytes, ask: Ask, end: int) -> bytes:
        flight = self._flying[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await ask()
        except BaseException as error:
            given = error if isinstance(error, Exception) else ConnectionAbortedError()
            flight.set_exception(given)
            flight.exception()  # nobody else may have wanted it
            raise
        finally:
            del self._flying[key]
        flight.set_result(answer)
        self._keep(key, answer, end)
        return answer

    def _fresh(self, key: bytes) -> Kept | None:
        kept = self._kept.get(key)
        if kept and kept.until <= self._now():
            del self._kept[key]
            return None
        return kept

    def _again(self, kept: Kept, query: bytes, name_end: int) -> bytes:
        age = int(self._now() - kept.since)
        answer = bytearray(kept.answer)
        answer[:2] = query[:2]
        answer[12:name_end] = query[12:name_end]
        for at in kept.times:
            left = max(int.from_bytes(answer[at : at + 4], "big") - age, 0)
            answer[at : at + 4] = left.to_bytes(4, "big")
        return bytes(answer)

    def _keep(self, key: bytes, answer: bytes, end: int) -> None:
        try:
            records = list(_records(answer, end))
        except (IndexError, struct.error):
            return  # whoever asked may understand it
        code = answer[3] & 15
        if code not in {NOERROR, NXDOMAIN}:
            return
        if not int.from_bytes(answer[6:8], "big"):  # a denial lasts as long as the SOA says
            records = [record for record in records if record[1] == SOA]
        life = min((ttl for _, _, ttl in records), default=0)
        if life > 0:
            now = self._now()
            times = tuple(at for at, _, _ in _records(answer, end))
            self._kept[key] = Kept(answer, now, now + min(life, LONGEST), times)
            if len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]


def _records(answer: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Of each record but OPT: where its time to live stands, its kind, its time to live.

    Of an SOA the last number counts too: how long a denial may be kept.
    """
    for _ in range(sum(struct.unpack_from(">HHH", answer, 6))):
        at = _behind_name(answer, at)
        kind, _, ttl, size = _RECORD.unpack_from(answer, at)
        if kind == SOA:
            minimum = int.from_bytes(answer[at + _RECORD.size + size - 4 :][:4], "big")
            yield at + _TTL_AT, kind, min(ttl, minimum)
        elif kind != _OPT:
            yield at + _TTL_AT, kind, ttl
        at += _RECORD.size + size


def _behind_name(answer: bytes, at: int) -> int:
    while size := answer[at]:
        if size >= _POINTER:
            return at + 2
        at += size + 1
    return at + 1
