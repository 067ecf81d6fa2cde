"""Which shim is whose; that forgotten ones end is shown by the chaos test."""

from pathlib import Path

import pytest

from sampan.agent.orphans import _empty_groups, sandbox_of

SHIM = ["/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io"]


@pytest.mark.parametrize(
    ("arguments", "sandbox"),
    [
        (["-id", "abc", "-address", "/run/x.sock"], "abc"),
        (["-address", "/run/x.sock"], ""),
        (["-id"], ""),
        (["-id", "abc", "-address", "/run/x.sock", "start"], ""),
        (["-id", "abc", "-address", "/run/x.sock", "delete"], ""),
    ],
)
def test_a_shim_is_named_after_its_sandbox(arguments: list[str], sandbox: str) -> None:
    assert sandbox_of([*SHIM, *arguments]) == sandbox


def test_groups_without_processes_that_nobody_knows_are_left_over(tmp_path: Path) -> None:
    for name, members in (("alive", "7\n"), ("known", ""), ("left", "")):
        for parent in ("pids/k8s.io", "memory/k8s.io"):
            place = tmp_path / parent / name
            place.mkdir(parents=True)
            (place / "cgroup.procs").write_text(members)
    assert _empty_groups({"known"}, tmp_path) == {
        str(tmp_path / "pids/k8s.io/left"),
        str(tmp_path / "memory/k8s.io/left"),
    }
