"""What containers use, from control groups of both versions, and how it is told."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sampan.agent.cgroups import Cgroups, disk_usage, traffic
from sampan.agent.memory import Seen
from sampan.agent.spec import NodePod
from sampan.agent.stats import Stats
from tests.agent.pods_bed import config
from tests.agent.situations import make_pod, running, sandbox

START = datetime(2026, 1, 1, tzinfo=UTC)


def version_one(root: Path, name: str, cpu_ns: int = 5_000_000_000) -> None:
    files = {
        "cpuacct": {"cpuacct.usage": str(cpu_ns)},
        "pids": {"pids.current": "3", "cgroup.procs": "12\n7\n"},
        "memory": {
            "memory.usage_in_bytes": "1000",
            "memory.stat": "cache 1\ntotal_inactive_file 300\ntotal_rss 500\n"
            "total_pgfault 9\ntotal_pgmajfault 1\n",
        },
    }
    for controller, texts in files.items():
        place = root / controller / "k8s.io" / name
        place.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (place / file).write_text(text)


def version_two(root: Path, name: str, cpu_ns: int = 5_000_000_000) -> None:
    place = root / "k8s.io" / name
    place.mkdir(parents=True, exist_ok=True)
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    texts = {
        "cpu.stat": f"usage_usec {cpu_ns // 1000}\nuser_usec 1\n",
        "memory.current": "1000",
        "memory.stat": "anon 500\ninactive_file 300\npgfault 9\npgmajfault 1\n",
        "pids.current": "3",
        "cgroup.procs": "12\n7\n",
    }
    for file, text in texts.items():
        (place / file).write_text(text)


@pytest.mark.parametrize("made", [version_one, version_two])
def test_both_versions_tell_the_same(tmp_path: Path, made: object) -> None:
    assert callable(made)
    made(tmp_path, "main-0")
    groups = Cgroups(tmp_path)
    used = groups.usage("main-0")
    assert used is not None
    assert (used.cpu_ns, used.memory, used.working_set) == (5_000_000_000, 1000, 700)
    assert (used.rss, used.faults, used.major_faults, used.processes) == (500, 9, 1, 3)
    assert groups.first_process("main-0") == 7
    assert groups.usage("gone") is None
    assert groups.first_process("gone") == 0


class Bed:
    def __init__(self, base: Path) -> None:
        self.root = base / "cgroup"
        self.now = START
        (base / "data").mkdir()
        version_one(self.root, "main-0")
        self.stats = Stats(config(base), self.running, lambda: self.now, Cgroups(self.root))

    def running(self) -> list[tuple[NodePod, Seen]]:
        return [(make_pod(), Seen((sandbox(),), (running(),)))]

    def after(self, seconds: float, cpu_ns: int) -> None:
        self.now += timedelta(seconds=seconds)
        version_one(self.root, "main-0", cpu_ns)


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


async def test_the_summary_is_a_kubelets(bed: Bed) -> None:
    await bed.stats.summary()
    bed.after(10, 10_000_000_000)
    summary = await bed.stats.summary()
    assert summary["node"]["nodeName"] == "n1"
    assert summary["node"]["memory"]["workingSetBytes"] > 0
    assert summary["node"]["fs"]["capacityBytes"] > summary["node"]["fs"]["availableBytes"] > 0
    [pod] = summary["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "u1"}
    [container] = pod["containers"]
    assert container["cpu"]["usageNanoCores"] == 500_000_000
    assert container["memory"]["workingSetBytes"] == 700
    assert (pod["cpu"]["usageNanoCores"], pod["memory"]["workingSetBytes"]) == (500_000_000, 700)


async def test_two_questions_at_once_do_not_spoil_the_rate(bed: Bed) -> None:
    await bed.stats.summary()
    bed.after(10, 10_000_000_000)
    await bed.stats.summary()
    bed.after(0.1, 10_000_000_000)
    [pod] = (await bed.stats.summary())["pods"]
    assert pod["cpu"]["usageNanoCores"] == 500_000_000


def test_prometheus_gets_totals_with_labels(bed: Bed) -> None:
    text = bed.stats.resource_metrics()
    labels = '{container="main",namespace="default",pod="web"}'
    assert f"container_cpu_usage_seconds_total{labels} 5\n" in text
    assert f"container_memory_working_set_bytes{labels} 700\n" in text
    assert 'pod_memory_working_set_bytes{namespace="default",pod="web"} 700\n' in text
    assert "# TYPE node_cpu_usage_seconds_total counter\n" in text
    assert text.count("# TYPE container_cpu_usage_seconds_total") == 1


def test_disk_usage_counts_blocks_and_follows_no_links(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 100_000 <= disk_usage(tmp_path) < 400_000
    assert disk_usage(tmp_path / "none") == 0


def test_this_process_has_network_interfaces_and_a_dead_one_has_none() -> None:
    assert all(each.name != "lo" for each in traffic(os.getpid()))
    assert traffic(0) == []
