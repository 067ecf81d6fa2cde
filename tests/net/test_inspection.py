"""What the kernel holds, read back and compared with what it was given."""

from collections.abc import Iterator

import pytest

from sampan.net import inspection, nft
from sampan.net.program import Elements
from tests.net.lab import Lab, LabNode, needs_root, service, slice_of

pytestmark = needs_root


@pytest.fixture
def node() -> Iterator[LabNode]:
    lab = Lab()
    try:
        lab.build(2)
        yield lab.nodes[0]
    finally:
        lab.close()


def held(node: LabNode) -> Elements:
    return dict(node.do(node.kernel.held))


def test_the_kernel_says_what_it_was_given_in_the_same_words(node: LabNode) -> None:
    pods = [node.pod(number) for number in (2, 3)]
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    fenced = {"loadBalancerSourceRanges": ["192.0.2.0/24", "198.51.100.7/32"]}
    node.serve(
        service("all", "10.43.0.1", ports=ports, ingress=[{"ip": "192.0.2.1"}], **fenced),
        slice_of(*pods),
    )
    local = service("local", "10.43.0.2", externalTrafficPolicy="Local", ports=[
        {"port": 81, "protocol": "UDP", "nodePort": 30081}
    ])  # fmt: skip
    node.serve(local, slice_of(protocol="UDP"))
    node.serve(service("sticky", "10.43.0.3", sessionAffinity="ClientIP"), slice_of(*pods))
    assert held(node) == inspection.plain(node.program.elements())


def test_an_entry_that_somebody_took_away_is_missed(node: LabNode) -> None:
    node.serve(service("web", "10.43.0.1"), slice_of(node.pod(2)))
    node.do(lambda: nft.run("delete element ip sampan vips { 10.43.0.1 . tcp . 80 }"))
    missing = inspection.plain(node.program.elements()).items() - held(node).items()
    assert {slot for slot, _ in missing} == {("vips", "10.43.0.1 . tcp . 80")}
