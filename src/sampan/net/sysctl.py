"""The kernel's switches for forwarding packets, in the network namespace of the calling thread."""

from pathlib import Path
from typing import Final

_IPV4: Final = Path("/proc/sys/net/ipv4")
_BRIDGED: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def forward_packets() -> None:
    """Let this node forward between its Pods and its links.

    A Pod that calls a Pod beside it through a Service gets its answer over the bridge; only if
    bridged packets are shown to netfilter too is the answer translated back.
    """
    write(_IPV4 / "ip_forward", "1")
    for device in ("all", "default"):
        write(_IPV4 / "conf" / device / "rp_filter", "0")
    if _BRIDGED.exists():
        write(_BRIDGED, "1")


def send_no_redirects(device: str) -> None:
    """Spare *device* ICMP redirects: we send packets back where they came from on purpose, and
    redirects use up the budget of ICMP errors that tell a client that nobody serves it.
    """
    for name in ("all", device):
        write(_IPV4 / "conf" / name / "send_redirects", "0")


def write(switch: Path, value: str) -> None:
    """Set a switch unless it is set already: in a container /proc/sys may be read-only."""
    if switch.read_text().strip() != value:
        switch.write_text(value)
