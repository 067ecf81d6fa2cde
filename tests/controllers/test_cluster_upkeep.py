"""Leases of nodes that are gone, and ClusterRoles that gather others."""

import asyncio

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.controllers.roster import controllers
from tests.controllers.cluster import add_node, beat, running, until
from tests.controllers.memory_api import MemoryApi

EVERYONE = controllers("CA")
GET = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
LIST = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}


def role(name: str, *rules: Object, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "rules": list(rules)}


def gathering(**labels: str) -> Object:
    rule = {"clusterRoleSelectors": [{"matchLabels": labels}]}
    return {"metadata": {"name": "all", "labels": labels}, "rules": None, "aggregationRule": rule}


def rules(api: MemoryApi) -> list[Object]:
    found: list[Object] = api.objects[kinds.CLUSTER_ROLES]["", "all"].get("rules") or []
    return found


async def test_an_aggregated_role_has_the_rules_of_what_it_selects_and_each_once() -> None:
    api = MemoryApi()
    await api.create(kinds.CLUSTER_ROLES, gathering(to="all"))
    await api.create(kinds.CLUSTER_ROLES, role("a", GET, to="all"))
    await api.create(kinds.CLUSTER_ROLES, role("b", GET, LIST, to="all"))
    await api.create(kinds.CLUSTER_ROLES, role("c", LIST, to="none"))
    async with running(api, EVERYONE):
        await until(lambda: rules(api) == [GET, LIST])
        await api.delete(kinds.CLUSTER_ROLES, "b")
        await until(lambda: rules(api) == [GET])
        await api.patch(kinds.CLUSTER_ROLES, "c", {"metadata": {"labels": {"to": "all"}}})
        await until(lambda: rules(api) == [GET, LIST])
        before = len(api.log)
        await asyncio.sleep(60)
        assert len(api.log) == before


def leases(api: MemoryApi) -> set[str]:
    return {lease["metadata"]["name"] for lease in api.of(kinds.LEASES)}


async def test_the_lease_of_a_node_that_is_gone_goes_an_hour_later() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await add_node(api, "n2")
    alive = {"n1", "n2"}
    async with running(api, EVERYONE, beat(api, alive)):
        await until(lambda: leases(api) == {"n1", "n2"})
        alive.remove("n2")
        await api.delete(kinds.NODES, "n2")
        await asyncio.sleep(3500)
        assert leases(api) == {"n1", "n2"}
        await until(lambda: leases(api) == {"n1"}, within=120)
