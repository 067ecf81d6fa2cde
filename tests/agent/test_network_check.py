"""The network examined from a node: what is right is not complained of, what is wrong is named."""

from pathlib import Path

import pytest

from sampan.agent.network_check import Verdict, examine
from sampan.net import inspection
from sampan.net.program import Elements
from tests.agent.test_network import Bed, running, until

WEB = ("vips", "10.43.0.80 . tcp . 80")


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


async def looked_at(bed: Bed, monkeypatch: pytest.MonkeyPatch, *, answer: str = "") -> Verdict:
    async def dial(_address: str, _port: int) -> str:
        return answer

    monkeypatch.setattr(inspection, "dial", dial)
    return await examine(bed.network)


def told(bed: Bed) -> Elements:
    """What the kernel was given when everything was loaded, as if nobody had touched it since."""
    program = bed.kernel.program
    assert program
    return inspection.plain(program.elements())


async def test_a_network_in_order_has_no_findings(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.add_service()
    await bed.add_endpoint("10.42.2.5")
    async with running(bed):
        bed.kernel.holds = lambda: told(bed)
        verdict = await looked_at(bed, monkeypatch)
        assert (verdict.names, verdict.dialled, verdict.repaired) == (1, 1, 0)
        assert verdict.findings == []


async def test_a_service_that_does_not_answer_is_named_and_one_that_nobody_serves_is_not_dialled(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.add_service()
    await bed.add_endpoint("10.42.2.5")
    await bed.add_service("idle", "10.43.0.81")
    async with running(bed):
        bed.kernel.holds = lambda: told(bed)
        verdict = await looked_at(bed, monkeypatch, answer="Connection refused")
        assert [(f.subject, f.problem) for f in verdict.findings] == [
            ("default/web 10.43.0.80:80", "Connection refused")
        ]


async def test_a_name_that_leads_elsewhere_is_named(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.add_service()
    async with running(bed):
        bed.kernel.holds = lambda: told(bed)
        bed.network._zone.put("service/default/web", ())
        verdict = await looked_at(bed, monkeypatch)
        [finding] = verdict.findings
        assert "resolves to nothing and not to 10.43.0.80" in finding.problem


async def test_entries_of_the_kernel_that_are_wrong_are_named_and_loaded_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.add_service()
    await bed.add_endpoint("10.42.2.5")
    async with running(bed):
        stray = ("vips", "10.43.0.99 . tcp . 1")
        bed.kernel.holds = lambda: {
            **{slot: value for slot, value in told(bed).items() if slot != WEB},
            stray: "0x1",
        }
        before = len(bed.kernel.loaded)
        verdict = await looked_at(bed, monkeypatch)
        assert {finding.subject for finding in verdict.findings} == {
            f"{name} {{ {key} }}" for name, key in (WEB, stray)
        }
        assert verdict.repaired == 2
        await until(lambda: len(bed.kernel.loaded) > before)
