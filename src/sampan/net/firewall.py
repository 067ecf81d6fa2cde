"""Other people's firewalls on this machine: Docker and ufw drop whatever they do not know.

Both keep their rules in the chains of iptables, whose policy they set to drop; a packet must pass
every table, so that accepting it in ours is not enough. Where such a chain is found, what is ours
is let through at its top.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Final

from sampan.net import nft

_TABLE: Final = "ip filter"
_CHAINS: Final = ("INPUT", "FORWARD")

Subject = str | IPv4Network
"""Whose packets: a device's, or those of a range of addresses."""


def admit(subject: Subject) -> None:
    """Let packets from and to *subject* through foreign chains that would drop them."""
    for chain in _CHAINS:
        rules = _listing(chain)
        if "policy drop" not in rules:
            continue
        for match in _matches(chain, subject):
            if match not in rules:
                nft.run(f"insert rule {_TABLE} {chain} {match} counter accept")


def dismiss(subject: Subject) -> None:
    """Take back what `admit` did."""
    for chain in _CHAINS:
        rules = _listing(chain)
        for match in _matches(chain, subject):
            ours = rf"{re.escape(match)} counter.* accept # handle (\d+)"
            for handle in re.findall(ours, rules):
                nft.run(f"delete rule {_TABLE} {chain} handle {handle}")


def _matches(chain: str, subject: Subject) -> Iterator[str]:
    """Both ways where packets are forwarded; only what comes where they are received."""
    name, ways = f'"{subject}"', ("iifname", "oifname")
    if isinstance(subject, IPv4Network):
        name, ways = str(subject), ("ip saddr", "ip daddr")
    yield f"{ways[0]} {name}"
    if chain == "FORWARD":
        yield f"{ways[1]} {name}"


def _listing(chain: str) -> str:
    """The rules of a foreign chain with their handles; nothing if there is no such chain."""
    try:
        return nft.run(f"list chain {_TABLE} {chain}", handles=True)
    except nft.NftError:
        return ""
