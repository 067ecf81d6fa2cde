"""What this machine is and how much of it is left, read from the kernel."""

import os
import platform
import shutil
from pathlib import Path
from typing import Final

from msgspec import Struct

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class Machine(Struct, frozen=True, kw_only=True):
    """What does not change while the machine runs; sizes in bytes."""

    cpus: int
    memory: int
    disk: int
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    system_uuid: str
    boot_id: str

    @classmethod
    def read(cls, data_dir: Path) -> "Machine":
        machine = _text("/etc/machine-id")
        return cls(
            cpus=os.cpu_count() or 1,
            memory=memory_info().get("MemTotal", 0),
            disk=shutil.disk_usage(data_dir).total,
            architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
            kernel=platform.release(),
            os_image=_os_release().get("PRETTY_NAME", "Linux"),
            machine_id=machine,
            system_uuid=_text("/sys/class/dmi/id/product_uuid") or machine,
            boot_id=_text("/proc/sys/kernel/random/boot_id"),
        )


class Headroom(Struct, frozen=True, kw_only=True):
    """What is left: bytes of memory and disk, and process ids."""

    memory: int
    disk: int
    pids: int

    @classmethod
    def read(cls, data_dir: Path) -> "Headroom":
        most = min(int(_text(f"/proc/sys/kernel/{name}")) for name in ("pid_max", "threads-max"))
        used = int(_text("/proc/loadavg").split()[3].partition("/")[2])
        return cls(
            memory=memory_info().get("MemAvailable", 0),
            disk=shutil.disk_usage(data_dir).free,
            pids=most - used,
        )


def memory_info() -> dict[str, int]:
    """Read /proc/meminfo, in bytes."""
    sizes = {}
    for line in _text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        amount, _, unit = rest.strip().partition(" ")
        sizes[name] = int(amount) * (1024 if unit == "kB" else 1)
    return sizes


def _os_release() -> dict[str, str]:
    fields = (line.partition("=") for line in _text("/etc/os-release").splitlines())
    return {name: value.strip("\"'") for name, _, value in fields}


def _text(path: str) -> str:
    """The text of a small file; "" if this machine does not have it."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
