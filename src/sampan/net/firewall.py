"""Other people's firewalls on this machine: Docker and ufw drop whatever they do not know.

Both keep their rules in the chains of iptables, whose policy they set to drop; a packet must pass
every table, so that accepting it in ours is not enough. Where such a chain is found, our device is
let through at its top.
"""

import re
from typing import Final

from sampan.net import nft

_TABLE: Final = "ip filter"
_DIRECTIONS: Final = {"INPUT": ("iifname",), "FORWARD": ("iifname", "oifname")}


def admit(device: str) -> None:
    """Let packets from and to *device* through foreign chains that would drop them."""
    for chain, directions in _DIRECTIONS.items():
        rules = _listing(chain)
        if "policy drop" not in rules:
            continue
        for direction in directions:
            match = f'{direction} "{device}"'
            if match not in rules:
                nft.run(f"insert rule {_TABLE} {chain} {match} counter accept")


def dismiss(device: str) -> None:
    """Take back what `admit` did."""
    for chain in _DIRECTIONS:
        ours = rf'[io]ifname "{re.escape(device)}" counter.* accept # handle (\d+)'
        for handle in re.findall(ours, _listing(chain)):
            nft.run(f"delete rule {_TABLE} {chain} handle {handle}")


def _listing(chain: str) -> str:
    """The rules of a foreign chain with their handles; nothing if there is no such chain."""
    try:
        return nft.run(f"list chain {_TABLE} {chain}", handles=True)
    except nft.NftError:
        return ""
