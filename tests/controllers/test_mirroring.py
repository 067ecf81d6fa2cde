"""Endpoints that people make become slices."""

import asyncio
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.controllers import mirroring
from sampan.controllers.endpoints import LEGACY, SLICES
from tests.controllers.cluster import running, service, until
from tests.controllers.memory_api import MemoryApi

WHICH = (SLICES, LEGACY, mirroring.CONTROLLER)


def hand_made(*subsets: Object, **meta: Any) -> Object:
    metadata = {"name": "db", "namespace": "default", **meta}
    return {"metadata": metadata, "subsets": list(subsets)}


def subset(*ready: str, unready: tuple[str, ...] = (), port: int = 5432) -> Object:
    return {
        "addresses": [{"ip": ip} for ip in ready],
        "notReadyAddresses": [{"ip": ip} for ip in unready],
        "ports": [{"port": port}],
    }


def mirrored(api: MemoryApi) -> dict[str, Any]:
    """Each address in a slice, with whether it is ready, its family and port."""
    return {
        e["addresses"][0]: (e["conditions"]["ready"], s["addressType"], s["ports"][0]["port"])
        for s in api.of(kinds.ENDPOINT_SLICES)
        for e in s["endpoints"]
    }


async def test_addresses_of_both_families_and_of_every_subset_are_mirrored() -> None:
    api = MemoryApi()
    await api.create(kinds.SERVICES, service("db", selector={}))
    await api.create(
        kinds.ENDPOINTS,
        hand_made(
            subset("192.0.2.1", "2001:db8::1", unready=("192.0.2.2",)), subset("192.0.2.3", port=1)
        ),
    )
    async with running(api, WHICH):
        await until(lambda: len(mirrored(api)) == 4)
        assert mirrored(api) == {
            "192.0.2.1": (True, "IPv4", 5432),
            "192.0.2.2": (False, "IPv4", 5432),
            "192.0.2.3": (True, "IPv4", 1),
            "2001:db8::1": (True, "IPv6", 5432),
        }
        [one, *_] = api.of(kinds.ENDPOINT_SLICES)
        assert one["metadata"]["labels"] == {
            "kubernetes.io/service-name": "db",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
        }
        await api.patch(kinds.ENDPOINTS, "db", {"subsets": [subset("192.0.2.9")]}, "default")
        await until(lambda: mirrored(api) == {"192.0.2.9": (True, "IPv4", 5432)})
        before = len(api.log)
        await asyncio.sleep(60)
        assert len(api.log) == before
        await api.delete(kinds.ENDPOINTS, "db", "default")
        await until(lambda: not api.of(kinds.ENDPOINT_SLICES))


async def test_a_slice_holds_a_hundred() -> None:
    api = MemoryApi()
    await api.create(kinds.SERVICES, service("db", selector={}))
    addresses = [f"192.0.2.{n}" for n in range(250)]
    await api.create(kinds.ENDPOINTS, hand_made(subset(*addresses)))
    async with running(api, WHICH):
        await until(lambda: len(mirrored(api)) == 250)
        sizes = sorted(len(s["endpoints"]) for s in api.of(kinds.ENDPOINT_SLICES))
        assert sizes == [50, 100, 100]
        few = {"subsets": [subset(*addresses[:120])]}
        await api.patch(kinds.ENDPOINTS, "db", few, "default")
        await until(lambda: len(mirrored(api)) == 120 and len(api.of(kinds.ENDPOINT_SLICES)) == 2)


@pytest.mark.parametrize(
    ("meta", "spec"),
    [
        ({"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}, {"selector": {}}),
        ({"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}, {"selector": {}}),
        ({"name": "of-no-service"}, {"selector": {}}),
    ],
)
async def test_what_is_not_to_be_mirrored_is_not(meta: Object, spec: Object) -> None:
    api = MemoryApi()
    await api.create(kinds.SERVICES, service("db", **spec))
    await api.create(kinds.ENDPOINTS, hand_made(subset("192.0.2.1"), **meta))
    async with running(api, WHICH):
        await asyncio.sleep(5)
    assert mirrored(api) == {}
