"""A machine whose other firewall drops what it does not know, as with Docker or ufw."""

from collections.abc import Iterator

import pytest

from sampan.net import firewall, namespaces, nft
from tests.net.lab import CLUSTER, Lab, LabNode, call, needs_root

pytestmark = needs_root
FOREIGN = """
table ip filter {
    chain INPUT { type filter hook input priority filter; policy drop; }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        ct state established accept
    }
}
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    try:
        lab.build(2)
        yield lab
    finally:
        lab.close()


def foreign(node: LabNode) -> str:
    return str(node.do(lambda: nft.run("list table ip filter")))


def test_pods_get_through_and_afterwards_the_firewall_is_as_it_was(lab: Lab) -> None:
    near, far = lab.nodes
    a, b = near.pod(2), far.pod(2)
    lab.answer(b, 8080, "b")
    near.do(lambda: nft.run(FOREIGN))
    before = foreign(near)
    with pytest.raises(TimeoutError):
        call(a, b.address, 8080)
    assert near.do(near.kernel.touched)
    near.do(lambda: near.kernel.load(near.program))
    assert call(a, b.address, 8080) == ("b", a.address)
    near.do(lambda: near.kernel.load(near.program))
    assert foreign(near).count(str(CLUSTER)) == 3
    near.do(lambda: near.kernel.cleanup(near.ground))
    assert foreign(near) == before


def test_a_firewall_that_accepts_is_left_alone(lab: Lab) -> None:
    [node, _] = lab.nodes
    node.do(lambda: nft.run(FOREIGN.replace("policy drop", "policy accept")))
    before = foreign(node)
    namespaces.run_in(node.namespace, lambda: firewall.admit(CLUSTER))
    assert foreign(node) == before
