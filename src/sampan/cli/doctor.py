"""`sampan doctor`: what this machine lacks for running containers, and how to get it.

Every check is a function that returns a Finding; `server`, `agent` and `dev` refuse to start on the
essential ones with the same words.
"""

import ctypes.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from sampan.cli.terminal import fail, out

LEAST_FREE_DISK = 1 << 30
API_PORT = 6443


class Finding(msgspec.Struct, frozen=True):
    subject: str
    problem: str = ""
    """Empty when all is well."""
    fix: str = ""
    detail: str = ""
    essential: bool = True


def _program(name: str, package: str, *alternatives: str) -> Callable[[], Finding]:
    def check() -> Finding:
        places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        for candidate in (name, *alternatives):
            if found := shutil.which(candidate, path=places):
                return Finding(name, detail=found)
        wanted = " or ".join((name, *alternatives))
        return Finding(name, f"{wanted} is not installed", f"apt-get install {package}")

    return check


def root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", detail="running as root")
    return Finding("root", "not running as root", f"sudo {' '.join(sys.argv)}")


def cgroups() -> Finding:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return Finding("cgroups", detail="version 2")
    if Path("/sys/fs/cgroup/memory").exists():
        return Finding("cgroups", detail="version 1")
    return Finding(
        "cgroups",
        "no cgroup file system at /sys/fs/cgroup",
        "mount -t cgroup2 none /sys/fs/cgroup",
    )


def overlay() -> Finding:
    known = Path("/proc/filesystems").read_text().split()
    if "overlay" in known or shutil.which("modprobe"):
        return Finding("overlayfs", detail="available" if "overlay" in known else "as a module")
    return Finding("overlayfs", "the kernel has no overlay file system", "modprobe overlay")


def nftables() -> Finding:
    """The rules of Services and policies are set through this library, in process."""
    if found := ctypes.util.find_library("nftables"):
        return Finding("nftables", detail=found)
    return Finding("nftables", "libnftables is not installed", "apt-get install libnftables1")


def network_namespaces() -> Finding:
    if Path("/proc/self/ns/net").exists():
        return Finding("network namespaces", detail="available")
    return Finding("network namespaces", "the kernel has none", "use a kernel with CONFIG_NET_NS=y")


def disk() -> Finding:
    place = next(p for p in (Path("/var/lib/sampan"), Path("/var/lib"), Path("/")) if p.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free >> 30} GiB free at {place}"
    if free >= LEAST_FREE_DISK:
        return Finding("disk", detail=detail)
    return Finding(
        "disk", f"only {free >> 20} MiB free at {place}", "make room: images need at least 1 GiB"
    )


def api_port() -> Finding:
    """Not essential: a server that already runs here holds it, and another port can be chosen."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", API_PORT)) != 0:
            return Finding(f"port {API_PORT}", detail="free", essential=False)
    return Finding(
        f"port {API_PORT}",
        "in use (by a Sampan or Kubernetes API server that already runs here?)",
        "stop that server, or start this one with --port",
        essential=False,
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    root,
    _program("containerd", "containerd"),
    _program("crun", "crun", "runc"),
    _program("ctr", "containerd"),
    _program("busybox", "busybox-static"),
    _program("nsenter", "util-linux"),
    cgroups,
    overlay,
    nftables,
    network_namespaces,
    disk,
    api_port,
)


def examine() -> list[Finding]:
    return [check() for check in CHECKS]


def require(findings: Iterable[Finding] | None = None) -> None:
    """End the command if something essential is missing."""
    broken = [f for f in findings or examine() if f.problem and f.essential]
    if broken:
        fail(
            "; ".join(finding.problem for finding in broken),
            hint="\n".join(f"  {finding.fix}" for finding in broken) + "\nmore: sampan doctor",
        )


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
) -> None:
    """Say what this machine lacks for running containers, and how to get it."""
    findings = examine()
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        if finding.problem:
            mark = "[bold red]✗[/]" if finding.essential else "[yellow]![/]"
            table.add_row(mark, finding.subject, finding.problem)
            table.add_row("", "", f"[bold]→[/] {finding.fix}")
        elif not quiet:
            table.add_row("[green]✓[/]", finding.subject, finding.detail)
    out.print(table)
    if any(finding.problem and finding.essential for finding in findings):
        raise typer.Exit(1)
    if not quiet:
        out.print("This machine can run containers.")
