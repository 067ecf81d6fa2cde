"""Which connections to a Pod are not done yet, as the kernel of its node sees it."""

import socket
import time
from collections.abc import Iterator

import pytest

from sampan.net import conntrack, namespaces, nft
from tests.net.lab import Lab, LabPod, caller, needs_root, service, slice_of

pytestmark = needs_root
VIP = "10.43.0.80"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab()
    try:
        lab.build(1)
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[tuple[LabPod, socket.socket]]:
    """A Pod that accepts nothing by itself, behind a Service."""
    pod = lab.nodes[0].pod(2)
    lab.nodes[0].serve(service("web", VIP), slice_of(pod))
    listening = namespaces.run_in(pod.namespace, lambda: socket.create_server(("", 8080)))
    with listening:
        yield pod, listening


def count(lab: Lab, pod: LabPod) -> int:
    return int(lab.nodes[0].do(lambda: conntrack.unfinished(pod.address)))


def becomes(lab: Lab, pod: LabPod, number: int, seconds: float = 6) -> bool:
    deadline = time.monotonic() + seconds
    while count(lab, pod) != number:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_connection_counts_while_something_moves_and_not_once_it_is_idle(
    lab: Lab, server: tuple[LabPod, socket.socket]
) -> None:
    pod, listening = server
    with caller(lab.nodes[0], socket.SOCK_STREAM) as client:
        assert count(lab, pod) == 0
        client.connect((VIP, 80))
        answering, _ = listening.accept()
        with answering:
            assert count(lab, pod) == 1
            assert becomes(lab, pod, 0)
            client.sendall(b"request")
            answering.recv(10)
            answering.sendall(b"answer")
            assert count(lab, pod) == 1
            client.recv(10)
    assert becomes(lab, pod, 0, seconds=0.5)


def test_a_connection_that_is_being_made_counts(lab: Lab) -> None:
    pod = lab.nodes[0].pod(3)
    namespaces.run_in(pod.namespace, _swallow_everything)
    with caller(lab.nodes[0], socket.SOCK_STREAM) as client:
        client.setblocking(False)
        assert client.connect_ex((pod.address, 80))
        assert count(lab, pod) == 1


def _swallow_everything() -> None:
    nft.run("table ip deaf { chain c { type filter hook input priority 0; policy drop; }; }")
