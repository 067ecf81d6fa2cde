"""What comes from above is kept as long as it says, and asked for once at a time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from dnslib import QTYPE, RCODE, RR, SOA, A, DNSRecord

from sampan.net.answers import Answers


class World:
    """Counts who asks; answers when told to."""

    def __init__(self, *, ttl: int = 60) -> None:
        self.ttl, self.asked, self.clock = ttl, 0, 100.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.answers = Answers(lambda: self.clock)

    async def get(self, name: str = "example.org", kind: str = "A", number: int = 7) -> DNSRecord:
        query = DNSRecord.question(name, kind)
        query.header.id = number
        return DNSRecord.parse(await self.answers.get(bytes(query.pack()), self._ask(query)))

    def _ask(self, query: DNSRecord) -> Callable[[], Awaitable[bytes]]:
        async def ask() -> bytes:
            self.asked += 1
            await self.gate.wait()
            if self.error:
                raise self.error
            return bytes(self._reply(query).pack())

        return ask

    def _reply(self, query: DNSRecord) -> DNSRecord:
        answer = query.reply()
        if query.q.qtype == QTYPE.A:
            answer.add_answer(RR(query.q.qname, QTYPE.A, ttl=self.ttl, rdata=A("192.0.2.1")))
        else:
            answer.header.rcode = RCODE.NXDOMAIN
            times = (1, 7200, 1800, 86400, 5)
            answer.add_auth(RR("org", QTYPE.SOA, ttl=900, rdata=SOA("ns.org", "me.org", times)))
        return answer


async def test_an_answer_is_given_again_with_what_is_left_of_its_time() -> None:
    world = World(ttl=60)
    assert (await world.get()).rr[0].ttl == 60
    world.clock += 20.5
    again = await world.get(number=9)
    assert (again.rr[0].ttl, again.header.id, str(again.rr[0].rdata)) == (40, 9, "192.0.2.1")
    assert world.asked == 1
    world.clock += 40
    await world.get()
    assert world.asked == 2


async def test_a_denial_is_kept_as_long_as_its_zone_says() -> None:
    world = World()
    assert (await world.get(kind="AAAA")).header.rcode == RCODE.NXDOMAIN
    world.clock += 4
    assert (await world.get(kind="AAAA")).header.rcode == RCODE.NXDOMAIN
    assert world.asked == 1
    world.clock += 2
    await world.get(kind="AAAA")
    assert world.asked == 2


async def test_what_must_not_be_kept_is_not() -> None:
    world = World(ttl=0)
    await world.get()
    await world.get()
    assert world.asked == 2


async def test_letters_come_back_in_the_case_in_which_they_were_asked() -> None:
    world = World()
    await world.get("example.org")
    assert str((await world.get("eXample.ORG")).q.qname) == "eXample.ORG."
    assert world.asked == 1


async def test_many_who_ask_at_once_are_one_question() -> None:
    world = World()
    world.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(world.get(number=number)) for number in range(50)]
        await asyncio.sleep(0.01)
        world.gate.set()
    assert world.asked == 1
    assert [task.result().header.id for task in tasks] == list(range(50))


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    world = World()
    world.error = OSError("nobody there")
    world.gate.clear()
    tasks = [asyncio.ensure_future(world.get()) for _ in range(3)]
    await asyncio.sleep(0.01)
    world.gate.set()
    for task in tasks:
        with pytest.raises(OSError, match="nobody"):
            await task
    world.error = None
    assert (await world.get()).rr


async def test_nonsense_from_above_is_passed_on_and_not_kept() -> None:
    answers = Answers(lambda: 0.0)
    query = bytes(DNSRecord.question("example.org").pack())

    async def nonsense() -> bytes:
        return query[:4] + b"\xff" * 20

    for _ in range(2):
        assert await answers.get(query, nonsense) == query[:4] + b"\xff" * 20
