"""The kernel's switches for forwarding packets, in the network namespace of the calling thread."""

from pathlib import Path
from typing import Final

_IPV4: Final = Path("/proc/sys/net/ipv4")


def forward_packets() -> None:
    """Let this node forward between its Pods and its links, whichever way answers take."""
    write(_IPV4 / "ip_forward", "1")
    for device in ("all", "default"):
        write(_IPV4 / "conf" / device / "rp_filter", "0")


def send_no_redirects(device: str) -> None:
    """Send no ICMP redirects from *device* and from devices to come, such as those of Pods.

    We send packets back where they came from on purpose, and redirects use up the budget of ICMP
    errors that tell a client that nobody serves it.
    """
    for name in ("all", "default", device):
        write(_IPV4 / "conf" / name / "send_redirects", "0")


def write(switch: Path, value: str) -> None:
    """Set a switch unless it is set already: in a container /proc/sys may be read-only."""
    if switch.read_text().strip() != value:
        switch.write_text(value)
