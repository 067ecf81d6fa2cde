import asyncio
from typing import Any

from sampan.api import kinds
from sampan.api.objects import Container, ContainerPort, Object, Pod, PodSpec, ServicePort
from sampan.controllers import endpoints, node_lifecycle
from tests.controllers.cluster import (
    add_node,
    beat,
    pod,
    report_ready,
    running,
    service,
    start,
    until,
)
from tests.controllers.memory_api import MemoryApi

BOTH = (endpoints.SLICES, endpoints.LEGACY)


def web(name: str, **more: Any) -> Object:
    return pod(name, labels={"app": "web"}, **more)


def ready(api: MemoryApi) -> list[str]:
    """The names of the Pods that slices call ready."""
    return sorted(
        e["targetRef"]["name"]
        for part in api.of(kinds.ENDPOINT_SLICES)
        for e in part["endpoints"]
        if e["conditions"]["ready"]
    )


async def a_pod(api: MemoryApi, name: str, *, node: str = "n1", is_up: bool = True) -> Object:
    made = await api.create(kinds.PODS, web(name))
    await start(api, made, node=node, ready=is_up)
    return made


async def test_ready_pods_on_ready_nodes_answer_for_a_service() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await add_node(api, "n2")
    await report_ready(api, "n2", "Unknown")
    await api.create(kinds.SERVICES, service("web"))
    await a_pod(api, "up")
    await a_pod(api, "starting", is_up=False)
    await a_pod(api, "lost", node="n2")
    await api.create(kinds.PODS, pod("other", labels={"app": "other"}))
    async with running(api, BOTH, agents=False):
        await until(lambda: ready(api) == ["up"])
        await until(lambda: len(api.of(kinds.ENDPOINTS)) == 1)
    (part,) = api.of(kinds.ENDPOINT_SLICES)
    assert part["metadata"]["name"].startswith("web-")
    assert part["metadata"]["labels"] == {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert part["metadata"]["ownerReferences"][0]["kind"] == "Service"
    assert part["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert len(part["endpoints"]) == 3
    (legacy,) = api.of(kinds.ENDPOINTS)
    (subset,) = legacy["subsets"]
    assert [a["targetRef"]["name"] for a in subset["addresses"]] == ["up"]
    assert {a["targetRef"]["name"] for a in subset["notReadyAddresses"]} == {"lost", "starting"}


async def test_a_pod_that_is_being_deleted_is_no_longer_ready_but_still_serves() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.SERVICES, service("web"))
    await a_pod(api, "going")
    async with running(api, BOTH, agents=False):
        await until(lambda: ready(api) == ["going"])
        await api.delete(kinds.PODS, "going", "default")
        await until(lambda: ready(api) == [])
        ((e,),) = (part["endpoints"] for part in api.of(kinds.ENDPOINT_SLICES))
        assert e["conditions"] == {"ready": False, "serving": True, "terminating": True}
        api.gone(kinds.PODS, api.of(kinds.PODS)[0])
        await until(lambda: api.of(kinds.ENDPOINT_SLICES)[0]["endpoints"] == [])


async def test_traffic_leaves_a_silent_node_within_three_seconds_and_comes_back() -> None:
    api = MemoryApi()
    alive = {"n1", "n2"}
    for name in alive:
        await add_node(api, name)
    await api.create(kinds.SERVICES, service("web"))
    await a_pod(api, "one", node="n1")
    await a_pod(api, "two", node="n2")
    which = (*BOTH, node_lifecycle.CONTROLLER)
    async with running(api, which, beat(api, alive), agents=False):
        await asyncio.sleep(20)
        assert ready(api) == ["one", "two"]
        alive.remove("n2")
        await until(lambda: ready(api) == ["one"], within=3)
        alive.add("n2")
        await until(lambda: ready(api) == ["one", "two"], within=3)


async def test_slices_hold_a_hundred_and_a_change_touches_one_of_them() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.SERVICES, service("web"))
    for n in range(250):
        await a_pod(api, f"p{n:03}")
    async with running(api, BOTH, agents=False):
        await until(lambda: len(ready(api)) == 250)
        sizes = sorted(len(part["endpoints"]) for part in api.of(kinds.ENDPOINT_SLICES))
        assert sizes == [50, 100, 100]
        before = len([entry for entry in api.log if entry[1] == kinds.ENDPOINT_SLICES])
        await api.delete(kinds.PODS, "p007", "default", grace_seconds=0)
        await until(lambda: len(ready(api)) == 249)
        await asyncio.sleep(1)
        after = len([entry for entry in api.log if entry[1] == kinds.ENDPOINT_SLICES])
        assert after == before + 1


async def test_services_that_select_nothing_are_left_to_their_makers() -> None:
    api = MemoryApi()
    kubernetes = service("kubernetes", selector={})
    await api.create(kinds.SERVICES, kubernetes)
    by_server = {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [],
    }
    await api.create(kinds.ENDPOINT_SLICES, by_server)
    await api.create(
        kinds.ENDPOINTS, {"metadata": {"name": "kubernetes", "namespace": "default"}, "subsets": []}
    )
    length = len(api.log)
    async with running(api, BOTH):
        await asyncio.sleep(10)
    assert len(api.log) == length


async def test_a_slice_that_somebody_deletes_or_spoils_is_put_right() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.SERVICES, service("web"))
    await a_pod(api, "one")
    async with running(api, BOTH, agents=False):
        await until(lambda: ready(api) == ["one"])
        (part,) = api.of(kinds.ENDPOINT_SLICES)
        await api.delete(kinds.ENDPOINT_SLICES, part["metadata"]["name"], "default")
        await until(lambda: ready(api) == ["one"])
        (part,) = api.of(kinds.ENDPOINT_SLICES)
        spoilt: Object = {"endpoints": []}
        await api.patch(kinds.ENDPOINT_SLICES, part["metadata"]["name"], spoilt, "default")
        await until(lambda: ready(api) == ["one"])


async def test_legacy_endpoints_go_with_their_service() -> None:
    api = MemoryApi()
    await api.create(kinds.SERVICES, service("web"))
    async with running(api, BOTH):
        await until(lambda: len(api.of(kinds.ENDPOINTS)) == 1)
        await api.delete(kinds.SERVICES, "web", "default")
        await until(lambda: api.of(kinds.ENDPOINTS) == [])


def test_a_named_port_leads_to_what_the_pod_calls_so() -> None:
    offered = ContainerPort(container_port=8443, name="tls")
    there = Pod(spec=PodSpec(containers=[Container("c", ports=[offered])]))
    assert endpoints.target(ServicePort(443, target_port="tls"), there) == 8443
    assert endpoints.target(ServicePort(443, target_port="nope"), there) == 0
    assert endpoints.target(ServicePort(443, target_port="99"), there) == 99
    assert endpoints.target(ServicePort(443), there) == 443
