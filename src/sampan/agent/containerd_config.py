"""What the node's containerd is told, as the text of its configuration file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from sampan.agent import pause
from sampan.agent.config import AgentConfig

_CAP_SYS_RESOURCE: Final = 24
_UNUSED: Final = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
)  # io.containerd.runtime.v1.linux is not among them: without it containerd 1.6 has no CRI
_ADMINISTRATORS: Final = "/etc/containerd/certs.d"
"""How registries are reached, as the administrator wants it; comes before what we think."""
_CRI: Final = "io.containerd.grpc.v1.cri"


class Host(Struct, frozen=True):
    """What the configuration depends on besides the node's own settings."""

    runtimes: Mapping[str, str]
    """OCI runtimes by name, with the paths of their programs."""
    runtime: str
    """Which of them is the default."""
    raises_oom_protection: bool
    """Whether we may make a process less likely to be killed for memory than we are."""
    apparmor: bool

    @classmethod
    def of_this_machine(cls, runtimes: Mapping[str, str], runtime: str) -> "Host":
        return cls(runtimes, runtime, _has_capability(_CAP_SYS_RESOURCE), _apparmor())


def configuration(config: AgentConfig, host: Host) -> str:
    tables = [
        _table("", _general(config)),
        _table("grpc", {"address": str(config.containerd_socket)}),
        _table("debug", {"level": "warn"}),
        _table(f'plugins."{_CRI}"', _cri(host)),
        _table(
            f'plugins."{_CRI}".cni',
            {
                "bin_dir": str(config.cni_bin_dir),
                "conf_dir": str(config.cni_conf_dir),
                "max_conf_num": 1,
            },
        ),
        _table(
            f'plugins."{_CRI}".registry',
            {"config_path": f"{_ADMINISTRATORS}:{config.registry_dir}"},
        ),
        _table(
            f'plugins."{_CRI}".containerd',
            {
                "snapshotter": "overlayfs",
                "default_runtime_name": host.runtime,
                "disable_snapshot_annotations": True,
            },
        ),
    ]
    for name, program in host.runtimes.items():
        table = f'plugins."{_CRI}".containerd.runtimes.{name}'
        tables.append(_table(table, {"runtime_type": "io.containerd.runc.v2"}))
        tables.append(_table(f"{table}.options", {"BinaryName": program, "SystemdCgroup": False}))
    return "\n".join(tables)


def _general(config: AgentConfig) -> Mapping[str, object]:
    return {
        "version": 2,
        "root": str(config.containerd_root),
        "state": str(config.containerd_state),
        "disabled_plugins": list(_UNUSED),
    }


def _cri(host: Host) -> Mapping[str, object]:
    return {
        "sandbox_image": pause.IMAGE,
        # Without the right to it, a Pod's sandbox would fail for asking to be protected.
        "restrict_oom_score_adj": not host.raises_oom_protection,
        "disable_apparmor": not host.apparmor,
        "tolerate_missing_hugetlb_controller": True,
        "disable_hugetlb_controller": True,
        "disable_tcp_service": True,
        "stream_server_address": "127.0.0.1",
        "stream_server_port": "0",
    }


def _table(name: str, values: Mapping[str, object]) -> str:
    """Write one TOML table; its strings, numbers, booleans and lists look as in JSON."""
    lines = [f"[{name}]"] if name else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join((*lines, ""))


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> number & 1)


def _apparmor() -> bool:
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False
