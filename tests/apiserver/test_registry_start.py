"""What a cluster has from the start, and keeps over restarts."""

from pathlib import Path

import pytest

from sampan.api import kinds
from sampan.api.errors import Invalid
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.store.memory import MemoryStore
from sampan.store.sqlite import SqliteStore
from tests.apiserver.support import Api, service, started


async def test_a_new_cluster_has_its_namespaces_and_roles(api: Api) -> None:
    assert await api.names(kinds.NAMESPACES) == [
        "default",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    ]
    assert "cluster-admin" in await api.names(kinds.CLUSTER_ROLES)
    assert "cluster-admin" in await api.names(kinds.CLUSTER_ROLE_BINDINGS)
    classes = await api.page(kinds.PRIORITY_CLASSES)
    assert {e.object["metadata"]["name"]: e.object["value"] for e in classes.items} == {
        "system-cluster-critical": 2_000_000_000,
        "system-node-critical": 2_000_001_000,
    }


async def test_every_namespace_has_an_account_and_the_root_certificate(api: Api) -> None:
    await api.create(kinds.NAMESPACES, {"metadata": {"name": "team"}})
    accounts = await api.page(kinds.SERVICE_ACCOUNTS, namespace="")
    places = {entry.object["metadata"]["namespace"] for entry in accounts.items}
    assert places == {"default", "kube-node-lease", "kube-public", "kube-system", "team"}
    maps = await api.page(kinds.CONFIGMAPS, namespace="team")
    assert maps.items[0].object["data"] == {"ca.crt": "PEM"}


async def test_the_kubernetes_service_leads_to_the_advertised_address() -> None:
    api = await started(advertise_address="192.0.2.7", advertise_port=7443)
    service = await api.get(kinds.SERVICES, "kubernetes")
    assert service["spec"]["clusterIP"] == "10.43.0.1"
    slices = await api.page(kinds.ENDPOINT_SLICES, labels="kubernetes.io/service-name=kubernetes")
    [entry] = slices.items
    assert entry.object["endpoints"][0]["addresses"] == ["192.0.2.7"]
    assert entry.object["ports"][0]["port"] == 7443
    endpoints = await api.get(kinds.ENDPOINTS, "kubernetes")
    assert endpoints["subsets"][0]["addresses"] == [{"ip": "192.0.2.7"}]


async def test_a_restart_writes_nothing_where_nothing_changed() -> None:
    store = MemoryStore()
    await started(store)
    before = store.revision
    await started(store)
    assert store.revision == before


async def test_a_restart_brings_the_advertised_address_up_to_date() -> None:
    store = MemoryStore()
    await started(store, advertise_address="192.0.2.7")
    api = await started(store, advertise_address="192.0.2.8")
    [entry] = (
        await api.page(kinds.ENDPOINT_SLICES, labels="kubernetes.io/service-name=kubernetes")
    ).items
    assert entry.object["endpoints"][0]["addresses"] == ["192.0.2.8"]


async def test_a_restart_leaves_what_an_administrator_changed() -> None:
    store = MemoryStore()
    api = await started(store)
    await api.patch(kinds.CLUSTER_ROLES, "view", {"rules": []})
    again = await started(store)
    assert (await again.get(kinds.CLUSTER_ROLES, "view"))["rules"] == []


async def test_a_restart_remembers_which_addresses_and_ports_are_taken() -> None:
    store = MemoryStore()
    api = await started(store)
    ports = [{"port": 80, "nodePort": 31999}]
    made = await api.create(kinds.SERVICES, service("one", type="NodePort", ports=ports))
    again = await started(store)
    for refused in (
        service("two", clusterIP=made["spec"]["clusterIP"]),
        service("two", type="NodePort", ports=ports),
    ):
        with pytest.raises(Invalid, match="already allocated"):
            await again.create(kinds.SERVICES, refused)


async def test_a_deleted_default_account_is_there_again_when_a_pod_needs_it(api: Api) -> None:
    await api.delete(kinds.SERVICE_ACCOUNTS, "default")
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    made = await api.create(kinds.PODS, pod)
    assert made["spec"]["serviceAccountName"] == "default"
    assert await api.get(kinds.SERVICE_ACCOUNTS, "default")


async def test_a_changed_root_certificate_is_published_again() -> None:
    store = MemoryStore()
    api = await started(store)
    await api.patch(kinds.CONFIGMAPS, "kube-root-ca.crt", {"data": {"ca.crt": "OLD"}})
    again = await started(store)
    assert (await again.get(kinds.CONFIGMAPS, "kube-root-ca.crt"))["data"] == {"ca.crt": "PEM"}


async def test_what_leads_to_the_api_is_there_again_when_somebody_deletes_it(api: Api) -> None:
    for kind in (kinds.SERVICES, kinds.ENDPOINTS, kinds.ENDPOINT_SLICES):
        before = await api.get(kind, "kubernetes")
        await api.delete(kind, "kubernetes")
        again = await api.get(kind, "kubernetes")
        assert again["metadata"]["uid"] != before["metadata"]["uid"]
    assert (await api.get(kinds.SERVICES, "kubernetes"))["spec"]["clusterIP"] == "10.43.0.1"


async def test_a_first_start_waits_for_few_commits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    await StoreRegistry(store, Settings()).start()
    counted = store.statistics()
    await store.close()
    assert counted.writes > 20
    assert counted.commits <= 6
