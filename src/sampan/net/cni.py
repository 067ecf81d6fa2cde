"""How containerd is told to connect a Pod: a cable of its own to the node, an address of its range.

No bridge: whatever a Pod sends passes the node's rules, also to the Pod beside it, and the node
keeps no link addresses that could be stale when an address is given to another Pod.
"""

import json
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

FILE: Final = "10-sampan.conflist"


def configuration(pod_cidr: IPv4Network, *, mtu: int, leases: Path) -> dict[str, Any]:
    """The network configuration list; *leases* is where host-local remembers who has what.

    Masquerading and host ports are not the plugins' work here: the node's rules do both, without a
    program to run for each Pod.
    """
    cable = {
        "type": "ptp",
        "ipMasq": False,
        "mtu": mtu,
        "ipam": {
            "type": "host-local",
            "dataDir": str(leases),
            "ranges": [[{"subnet": str(pod_cidr), "gateway": str(pod_cidr[1])}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "0.4.0", "name": "sampan", "plugins": [cable]}


def write(directory: Path, text: dict[str, Any]) -> None:
    """Put the configuration where containerd looks, in one step: it reads at any moment."""
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f".{FILE}"
    draft.write_text(json.dumps(text, indent=2))
    draft.replace(directory / FILE)
