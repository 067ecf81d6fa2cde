"""Real packets in network namespaces: nodes, Pods without containers, and an outside."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import count
from os import geteuid, getpid
from typing import Any

import pytest

from sampan.api.objects import EndpointSlice, Object, Service
from sampan.net import links, namespaces, testbed
from sampan.net.compile import NodeFacts, compile_service
from sampan.net.kernel import Ground, Linux
from sampan.net.links import STATIC, Route
from sampan.net.netlink import Netlink
from sampan.net.overlay import Peer
from sampan.net.program import Program

needs_root = pytest.mark.skipif(geteuid() != 0, reason="network namespaces need root")
DNS = IPv4Address("10.43.0.10")
CLUSTER, SERVICES = IPv4Network("10.42.0.0/16"), IPv4Network("10.43.0.0/16")
_numbers = count(1)


def free_subnet() -> str:
    """A subnet for a test bed, another for each process and each call: tests run side by side."""
    number = getpid() * 16 + next(_numbers)
    return f"10.{212 + (number >> 8) % 8}.{number % 256}.0/24"


def facts(name: str, pods: IPv4Network) -> NodeFacts:
    return NodeFacts(name, pods, CLUSTER, SERVICES, str(DNS))


class LabNode:
    """A node's network as the agent would set it, and its Pods."""

    def __init__(self, name: str, namespace: str, address: IPv4Address, number: int) -> None:
        self.name, self.namespace, self.address = name, namespace, address
        self.pods = IPv4Network(f"10.42.{number}.0/24")
        self.ground = Ground(address, self.pods, CLUSTER, SERVICES, DNS)
        self.program = Program(facts(name, self.pods))
        self.kernel = Linux()
        self.pod_namespaces: list[str] = []
        self.mtu = self.do(lambda: self.kernel.lay(self.ground, self.program))

    def do(self, function: Any) -> Any:
        return namespaces.run_in(self.namespace, function)

    def reach(self, *others: "LabNode") -> None:
        peers = [Peer(other.address, other.pods) for other in others]
        self.do(lambda: self.kernel.reach(peers))
        self.program.know(peers)
        change = self.program.take()
        self.do(lambda: self.kernel.apply(change))

    def put(self, service: Object, *slices: Object) -> None:
        key = service["metadata"]["name"]
        parts = map(EndpointSlice.of, slices)
        self.program.put(key, compile_service(Service.of(service), parts, self.program.node))

    def serve(self, service: Object, *slices: Object) -> None:
        self.put(service, *slices)
        change = self.program.take()
        self.do(lambda: self.kernel.apply(change))

    def pod(self, number: int) -> "LabPod":
        namespace = f"{self.namespace}-p{number}"
        address = self.pods[number]
        namespaces.create(namespace)
        self.pod_namespaces.append(namespace)
        cable = f"pod{number}"

        def plug() -> None:
            with Netlink() as netlink, namespaces.path(namespace).open("rb") as file:
                links.add_veth(
                    netlink,
                    cable,
                    peer="eth0",
                    peer_namespace=file.fileno(),
                    peer_mac=links.mac_of(address),
                )
                links.set_link(netlink, cable, up=True, mtu=self.mtu)
                links.add_address(netlink, cable, IPv4Interface(self.pods[1]))
                links.set_route(netlink, Route(IPv4Network(address), cable), STATIC)

        def dress() -> None:
            with Netlink() as netlink:
                links.set_link(netlink, "lo", up=True)
                links.set_link(netlink, "eth0", up=True, mtu=self.mtu)
                links.add_address(netlink, "eth0", IPv4Interface(address))
                gateway = IPv4Network(self.pods[1])
                links.set_route(netlink, Route(gateway, "eth0"), STATIC)
                default = Route(IPv4Network("0.0.0.0/0"), "eth0", via=self.pods[1])
                links.set_route(netlink, default, STATIC)

        self.do(plug)
        namespaces.run_in(namespace, dress)
        return LabPod(self, namespace, str(address))


class LabPod:
    def __init__(self, node: LabNode, namespace: str, address: str) -> None:
        self.node, self.namespace, self.address = node, namespace, address
        self.endpoint = {
            "addresses": [address],
            "nodeName": node.name,
            "conditions": {"ready": True, "serving": True, "terminating": False},
        }


class Lab:
    def __init__(self) -> None:
        self.name = f"t{getpid()}x{next(_numbers)}"
        self.nodes: list[LabNode] = []
        self.exit = ExitStack()

    def close(self) -> None:
        self.exit.close()
        for node in self.nodes:
            for namespace in node.pod_namespaces:
                namespaces.delete(namespace)
        testbed.destroy(self.name)

    def build(self, count: int) -> None:
        network = IPv4Network(free_subnet())
        self.gateway = str(network[1])
        testbed.create(self.name, subnet=str(network), nodes=count, egress=False)
        for number in range(1, count + 1):
            namespace = testbed.netns_path(self.name, f"node-{number}").name
            node = LabNode(f"node-{number}", namespace, network[10 + number], number)
            self.nodes.append(node)
        for node in self.nodes:
            node.reach(*(other for other in self.nodes if other is not node))

    def answer(self, where: LabPod | LabNode, port: int, name: str, address: object = "") -> None:
        """Answer each TCP connection and each UDP packet with *name* and the caller's address."""
        at = str(address), port
        tcp = namespaces.run_in(where.namespace, lambda: socket.create_server(at))
        udp = namespaces.run_in(where.namespace, lambda: _udp_socket(at))
        for listening, work in ((tcp, _serve_tcp), (udp, _serve_udp)):
            thread = threading.Thread(target=work, args=(listening, name), daemon=True)
            thread.start()
            self.exit.callback(thread.join, 5)
            self.exit.callback(listening.close)
            self.exit.callback(_shut, listening)

    @contextmanager
    def echo(self, where: LabPod | LabNode, port: int) -> Iterator[None]:
        """Give back whatever comes over one TCP connection."""
        listening = namespaces.run_in(where.namespace, lambda: socket.create_server(("", port)))
        thread = threading.Thread(target=_echo, args=(listening,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            _shut(listening)
            listening.close()
            thread.join(5)


def _echo(listening: socket.socket) -> None:
    try:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(5)
            while heard := connection.recv(9000):
                connection.sendall(heard)
    except OSError:
        return


def _shut(listening: socket.socket) -> None:
    try:
        listening.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _udp_socket(at: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(at)
    return made


def _serve_tcp(listening: socket.socket, name: str) -> None:
    while True:
        try:
            connection, (address, _) = listening.accept()
        except OSError:
            return
        with connection:
            connection.sendall(f"{name} {address}".encode())


def _serve_udp(listening: socket.socket, name: str) -> None:
    while True:
        try:
            _, caller = listening.recvfrom(9000)
            if caller:
                listening.sendto(f"{name} {caller[0]}".encode(), caller)
            else:
                return
        except OSError:
            return


@contextmanager
def caller(where: LabPod | LabNode | None, kind: int) -> Iterator[socket.socket]:
    """A socket in a Pod, on a node, or outside."""

    def make() -> socket.socket:
        return socket.socket(socket.AF_INET, kind)

    made = namespaces.run_in(where.namespace, make) if where else make()
    with made:
        made.settimeout(2)
        yield made


def call(where: LabPod | LabNode | None, address: object, port: int) -> tuple[str, str]:
    """Dial by TCP; return who answered and from which address the call seemed to come."""
    with caller(where, socket.SOCK_STREAM) as dialled:
        dialled.connect((str(address), port))
        name, _, source = dialled.recv(100).decode().partition(" ")
        return name, source


def ask(where: LabPod | LabNode | None, address: object, port: int, size: int = 1) -> str:
    """Ask by UDP; return who answered."""
    with caller(where, socket.SOCK_DGRAM) as sending:
        sending.connect((str(address), port))
        sending.send(b"x" * size)
        return sending.recv(100).decode().split()[0]


def names(answers: Sequence[tuple[str, str]]) -> set[str]:
    return {name for name, _ in answers}


def service(name: str, address: str, **spec: Any) -> Object:
    ports = spec.pop("ports", [{"port": 80, "protocol": "TCP"}])
    status = {"loadBalancer": {"ingress": spec.pop("ingress", [])}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": address, "ports": ports, **spec},
        "status": status,
    }


def slice_of(*pods: LabPod | Object, port: int = 8080, protocol: str = "TCP") -> Object:
    endpoints = [pod.endpoint if isinstance(pod, LabPod) else pod for pod in pods]
    return {
        "metadata": {"name": "slice", "namespace": "default"},
        "endpoints": endpoints,
        "ports": [{"port": port, "protocol": protocol}],
    }
