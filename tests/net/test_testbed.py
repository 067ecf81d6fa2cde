"""Test beds: nodes as namespaces on a bridge, made, mended, unplugged and gone."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Network
from os import getpid
from pathlib import Path

import pytest

from sampan.net import namespaces, nft, testbed
from tests.net.lab import free_subnet, needs_root

pytestmark = needs_root
SUBNET = free_subnet()
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@pytest.fixture
def name() -> Iterator[str]:
    made = f"b{getpid()}"
    yield made
    testbed.destroy(made)


def answers(address: str, *, within: float) -> bool:
    """Dial a node from here: a refusal comes from a node that lives."""
    with socket.socket() as probe:
        probe.settimeout(within)
        try:
            probe.connect((address, 9))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return True


def node(number: int) -> str:
    return str(IPv4Network(SUBNET)[number])


def traces(name: str) -> list[str]:
    devices = [device for _, device in socket.if_nameindex() if name in device]
    files = [file.name for file in namespaces.DIRECTORY.glob(f"*{name}*")]
    tables = [line for line in nft.run("list tables").splitlines() if name in line]
    return devices + files + tables


def test_each_node_has_its_address_and_the_gateway_reaches_it(name: str) -> None:
    testbed.create(name, subnet=SUBNET, nodes=3, egress=False)
    for number in (1, 2, 3):
        assert testbed.netns_path(name, f"node-{number}").exists()
        assert answers(node(10 + number), within=3)


def test_making_it_again_adds_what_is_missing(name: str) -> None:
    testbed.create(name, subnet=SUBNET, nodes=1, egress=False)
    inode = testbed.netns_path(name, "node-1").stat().st_ino
    testbed.create(name, subnet=SUBNET, nodes=2, egress=False)
    assert testbed.netns_path(name, "node-1").stat().st_ino == inode
    assert answers(node(12), within=3)


def test_an_unplugged_node_is_silent_until_it_is_mended(name: str) -> None:
    testbed.create(name, subnet=SUBNET, nodes=2, egress=False)
    testbed.unplug(name, 1)
    assert not answers(node(11), within=0.3)
    assert answers(node(12), within=3)
    testbed.create(name, subnet=SUBNET, nodes=2, egress=False)
    assert answers(node(11), within=5)


def test_destroying_it_leaves_no_trace(name: str) -> None:
    forwarding = FORWARDING.read_text()
    testbed.create(name, subnet=SUBNET, nodes=2, egress=True)
    assert len(traces(name)) == 6
    assert FORWARDING.read_text().strip() == "1"
    testbed.destroy(name)
    assert traces(name) == []
    testbed.destroy(name)
    others = "sampan-dev-" in nft.run("list tables")
    assert FORWARDING.read_text() == forwarding or others


def test_without_egress_the_machine_is_left_as_it_was(name: str) -> None:
    forwarding, tables = FORWARDING.read_text(), nft.run("list tables")
    testbed.create(name, subnet=SUBNET, nodes=1, egress=False)
    assert (FORWARDING.read_text(), nft.run("list tables")) == (forwarding, tables)
