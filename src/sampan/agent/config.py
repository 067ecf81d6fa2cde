"""What an agent must be told before it can ask the API server for the rest."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct


class AgentConfig(Struct, frozen=True, kw_only=True):
    """Paths are per node: several agents may share a machine, each in a network of its own."""

    node_name: str
    node_ip: str
    server: str
    """The API server's URL, such as https://10.0.0.1:6443."""
    data_dir: Path
    """Kept across reboots: images, logs, volumes, keys."""
    run_dir: Path
    """Gone after a reboot: sockets, pid files, addresses handed out."""
    ca: Path
    certificate: Path
    key: Path
    labels: dict[str, str] = {}
    cluster_cidr: str = "10.42.0.0/16"
    service_cidr: str = "10.43.0.0/16"
    dns_ip: str = "10.43.0.10"
    cluster_domain: str = "cluster.local"
    upstream_dns: tuple[str, ...] = ()
    """Where names outside the cluster are asked; empty means the host's /etc/resolv.conf."""
    stub_domains: Mapping[str, tuple[str, ...]] = {}
    """Domains that are asked of servers of their own."""
    max_pods: int = 110
    heartbeat_seconds: float = 1.0
    oci_runtime: str = "auto"
    """`crun`, `runc`, or `auto`: crun where it is installed."""

    @property
    def containerd_socket(self) -> Path:
        return self.run_dir / "containerd.sock"

    @property
    def containerd_config(self) -> Path:
        return self.run_dir / "containerd.toml"

    @property
    def containerd_root(self) -> Path:
        return self.data_dir / "containerd"

    @property
    def containerd_state(self) -> Path:
        return self.run_dir / "state"

    @property
    def registry_dir(self) -> Path:
        """How registries are reached: containerd's `certs.d`, one directory a registry."""
        return self.run_dir / "registries"

    @property
    def netns_dir(self) -> Path:
        """Outside; in the node's mount namespace it is /run/netns."""
        return self.run_dir / "netns"

    @property
    def exec_dir(self) -> Path:
        """FIFOs of processes that clients run in containers."""
        return self.run_dir / "exec"

    @property
    def cni_conf_dir(self) -> Path:
        return self.run_dir / "cni" / "conf"

    @property
    def cni_bin_dir(self) -> Path:
        return self.run_dir / "cni" / "bin"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def claims_dir(self) -> Path:
        """Volumes that are made to order."""
        return self.data_dir / "claims"

    @property
    def volume_dir(self) -> Path:
        return self.data_dir / "volumes"
