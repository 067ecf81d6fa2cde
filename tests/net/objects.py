"""Small Services and slices for tests of what is pure."""

from ipaddress import IPv4Network
from typing import Any

from sampan.api.objects import EndpointSlice, Service
from sampan.net.compile import NodeFacts, Part, compile_service

NODE = NodeFacts(
    "node-1",
    IPv4Network("10.42.1.0/24"),
    IPv4Network("10.42.0.0/16"),
    IPv4Network("10.43.0.0/16"),
    "10.43.0.10",
)


def service(address: str = "10.43.0.80", *, name: str = "web", **spec: Any) -> Service:
    ports = spec.pop("ports", [{"name": "http", "port": 80, "protocol": "TCP"}])
    ingress = spec.pop("ingress", [])
    return Service.of(
        {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": address, "ports": ports, **spec},
            "status": {"loadBalancer": {"ingress": ingress}},
        }
    )


def endpoint(
    address: str, node: str = "node-1", *, ready: bool = True, ending: bool = False, host: str = ""
) -> dict[str, Any]:
    conditions = {"ready": ready, "serving": ready or ending, "terminating": ending}
    made = {"addresses": [address], "nodeName": node, "conditions": conditions}
    return {**made, "hostname": host} if host else made


def slice_of(*endpoints: dict[str, Any], ports: Any = None, **more: Any) -> EndpointSlice:
    return EndpointSlice.of(
        {
            "metadata": {"name": "web-1", "namespace": "default"},
            "endpoints": list(endpoints),
            "ports": ports or [{"name": "http", "port": 8080, "protocol": "TCP"}],
            **more,
        }
    )


def compiled(offered: Service, *slices: EndpointSlice) -> Part:
    return compile_service(offered, slices, NODE)
