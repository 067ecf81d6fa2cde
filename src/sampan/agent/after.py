"""Which Services a Pod's first start waits for; pure."""

from collections.abc import Iterable, Mapping

from sampan.agent.spec import AFTER, NodePod
from sampan.api.objects import EndpointSlice


def awaited_services(pod: NodePod) -> Mapping[str, str]:
    """Return what must be so (`ready` or `started`) by the Service's name."""
    pairs = (
        item.strip().partition("=") for item in pod.metadata.annotations.get(AFTER, "").split(",")
    )
    return {name: wanted or "ready" for name, _, wanted in pairs if name}


def awaited(pod: NodePod, slices: Iterable[EndpointSlice]) -> str:
    """Say in words what is still missing; "" when the Pod may start."""
    services = awaited_services(pod)
    if not services:
        return ""
    known: dict[str, list[bool]] = {name: [] for name in services}
    for piece in slices:
        if piece.service in known:
            known[piece.service] += [endpoint.conditions.ready for endpoint in piece.endpoints]
    missing = [
        _missing(name, wanted, known[name])
        for name, wanted in services.items()
        if not (any(known[name]) if wanted == "ready" else known[name])
    ]
    return "; ".join(missing)


def _missing(name: str, wanted: str, endpoints: list[bool]) -> str:
    if wanted == "ready" and endpoints:
        return f"waiting for {name}: 0 of {len(endpoints)} endpoints ready"
    return f"waiting for {name}: it has no endpoints yet"
