"""A user's own rules: they decide, they explain, and whatever they do the scheduler goes on."""

import runpy
import time
from pathlib import Path

import pytest

from sampan.api import kinds
from sampan.scheduler.loop import Scheduler
from sampan.scheduler.own import BadRules, Sandbox, load
from sampan.testing.rules import Bench, node, pod
from tests.scheduler.api import BindingApi, scheduling, until
from tests.scheduler.support import raw_node, raw_pod


def written(path: Path, text: str) -> Path:
    file = path / "rules.py"
    file.write_text(text)
    return file


def test_a_filter_refuses_with_its_docstring_and_a_score_prefers(tmp_path: Path) -> None:
    rules = written(
        tmp_path,
        "def filter_quiet(pod, nodes):\n"
        "    'node(s) are kept quiet'\n"
        "    return nodes.label('noise') != 'low'\n"
        "def score_cool(pod, nodes):\n"
        "    return 100 - nodes.numbers('temperature', missing=50)\n"
        "WEIGHTS = {'score_cool': 5}\n",
    )
    bench = Bench(
        rules,
        node("quiet", {"noise": "low"}),
        node("warm", {"temperature": "40"}),
        node("cool", {"temperature": "10"}),
    )
    assert set(bench.ratings(pod())) == {"warm", "cool"}
    assert bench.place(pod()) == "cool"
    alone = Bench(rules, node("quiet", {"noise": "low"}))
    assert alone.why(pod()) == (
        "0/1 nodes are available: 1 node(s) are kept quiet. "
        "quiet: refused by your rule filter_quiet."
    )


def test_a_rule_reads_amounts_and_the_pod(tmp_path: Path) -> None:
    rules = written(
        tmp_path,
        "def filter_half(pod, nodes):\n"
        "    'node(s) must stay half empty'\n"
        "    assert len(nodes.names) == len(nodes)\n"
        "    wanted = nodes.used('cpu') + pod.requests['cpu']\n"
        "    return (2 * wanted <= nodes.capacity('cpu')) | (pod.priority > 0)\n",
    )
    bench = Bench(rules, node("a", cpu="4"))
    assert bench.place(pod(cpu="2")) == "a"
    assert bench.place(pod(cpu="1")) is None
    assert bench.place(pod(cpu="1", priority=1)) == "a"
    assert not bench.faults


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('x')", "raised KeyError"),
        ("return [1, 2, 3]", "raised ValueError"),
        ("return float('nan')", "not a number everywhere"),
        ("return 'yes'", "raised TypeError"),
        ("while True: pass", "took longer than"),
        ("while True:\n        try: time()\n        except Exception: pass", "took longer than"),
        ("import time; time.sleep(0.03)", "took longer than"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("sort", ["filter", "score"])
def test_a_rule_that_fails_is_skipped_counted_and_told_of(
    tmp_path: Path, body: str, says: str, sort: str
) -> None:
    bench = Bench(
        written(tmp_path, f"def {sort}_bad(pod, nodes):\n    {body}\n"), node("a"), node("b")
    )
    begun = time.perf_counter()
    assert bench.place(pod())
    assert time.perf_counter() - begun < 0.5
    assert says in bench.faults[0]
    assert f"rule {sort}_bad" in bench.faults[0]
    assert bench.own.sandbox.records[f"{sort}_bad"].faults == len(bench.faults)


EXAMPLE = Path(__file__).parents[2] / "examples" / "07-own-rule" / "test_rules.py"


@pytest.mark.parametrize("name", [n for n in runpy.run_path(str(EXAMPLE)) if n[:5] == "test_"])
def test_the_example_and_its_own_tests_hold(name: str) -> None:
    runpy.run_path(str(EXAMPLE))[name]()


def test_a_rule_that_fails_again_and_again_rests_and_is_then_tried_again(tmp_path: Path) -> None:
    now = 0.0
    fence = Sandbox(clock=lambda: now)
    rules = written(tmp_path, "def score_bad(pod, nodes):\n    raise OSError\n")
    bench = Bench(rules, node("a"))
    bench.own = load(rules, fence)
    bench._placer.profiles = bench.own.profiles
    for _ in range(10):
        assert bench.place(pod())
    record = fence.records["score_bad"]
    assert (record.calls, record.faults, record.skipped) == (3, 3, 7)
    assert "rests for 60 s" in fence.told()[-1]
    now = 61.0
    assert bench.place(pod())
    assert record.calls == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def filter_x(:", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("WEIGHTS = {'score_x': 1}", "WEIGHTS['score_x']"),
        ("def score_x(pod, nodes): return 1\nWEIGHTS = {'score_x': -1}", "WEIGHTS['score_x']"),
        ("PROFILES = {'mine': 'tetris'}", "PROFILES['mine']: 'tetris' is none of spread"),
        ("PROFILES = {'mine': {'shape': []}}", "PROFILES['mine']: 'weights'"),
        ("PROFILES = {'m': {'shape': [(9, 0), (0, 1)], 'weights': {'cpu': 1}}}", "in order"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_the_reason(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(BadRules, match=r"rules\.py") as raised:
        load(written(tmp_path, text))
    assert says in str(raised.value)


def test_a_profile_may_follow_a_shape(tmp_path: Path) -> None:
    shape = "{'shape': [(0, 0), (100, 10)], 'weights': {'cpu': 1}}"
    bench = Bench(
        written(tmp_path, f"PROFILES = {{'packer': {shape}}}"), node("a"), node("b"), node("c")
    )
    placed = [bench.place(pod(cpu="1", schedulerName="packer")) for _ in range(4)]
    assert len(set(placed)) == 1
    assert len({bench.place(pod(cpu="1")) for _ in range(4)}) > 1


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRules, match="FileNotFoundError"):
        load(tmp_path / "none.py")


async def test_a_failing_rule_is_told_of_by_an_event_and_stops_nobody(tmp_path: Path) -> None:
    rules = written(tmp_path, "def score_bad(pod, nodes):\n    raise OSError('broken')\n")
    api = BindingApi()
    await api.add(kinds.NODES, raw_node("n1"))
    async with scheduling(api, own=load(rules)):
        await api.add(kinds.PODS, *(raw_pod(f"p{i}", cpu=f"{i + 1}0m") for i in range(5)))
        await until(lambda: all(api.node_of(f"p{i}") for i in range(5)))
        await until(lambda: api.events("SchedulingRuleFailed"))
    assert "score_bad raised OSError: broken" in api.events("SchedulingRuleFailed")[0]["message"]


async def test_how_long_each_rule_takes_is_known() -> None:
    api = BindingApi()
    await api.add(kinds.NODES, raw_node("n1"))
    async with scheduling(api) as scheduler:
        await api.add(kinds.PODS, raw_pod("p"))
        await until(lambda: api.node_of("p"))
    assert isinstance(scheduler, Scheduler)
    times = scheduler.rule_times()
    assert {"NodeResourcesFit", "LeastAllocated", "InterPodAffinity"} <= times.keys()
    assert all(spent.calls > 0 and spent.seconds > 0 for spent in times.values())
