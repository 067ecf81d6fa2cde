"""ResourceQuotas: what counts, who is refused, and a status that is always right."""

import asyncio
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Forbidden, Invalid
from sampan.api.kinds import DEFINITIONS
from sampan.api.objects import Object
from sampan.apiserver.admission.usage import QUOTAS
from tests.apiserver.crds import CRONTABS, crd
from tests.apiserver.support import Api, config_map, pod, service, started
from tests.apiserver.test_admission_limits import claim, sized


def quota(name: str = "q", **spec: Any) -> Object:
    hard = spec.pop("hard")
    return {"metadata": {"name": name}, "spec": {"hard": hard, **spec}}


def named(name: str, made: Object) -> Object:
    return {**made, "metadata": {"name": name}}


async def used(api: Api, name: str = "q") -> Object:
    found: Object = (await api.get(QUOTAS, name))["status"]["used"]
    return found


async def test_the_refusal_says_what_was_asked_what_is_used_and_what_is_there(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"cpu": "2", "pods": "10"}))
    await api.create(kinds.PODS, named("a", sized({"cpu": "1"})))
    with pytest.raises(Forbidden) as refused:
        await api.create(kinds.PODS, named("b", sized({"cpu": "2"})))
    assert refused.value.message == (
        'pods "b" is forbidden: exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2'
    )
    assert await used(api) == {"cpu": "1", "pods": "1"}


async def test_what_is_counted_must_be_said(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"limits.memory": "1Gi", "requests.cpu": "1"}))
    with pytest.raises(Forbidden) as refused:
        await api.create(kinds.PODS, pod())
    assert refused.value.message == (
        'pods "web" is forbidden: failed quota: q: must specify limits.memory for: main; '
        "requests.cpu for: main"
    )


async def test_status_follows_creation_deletion_and_the_end_of_pods(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"pods": "5", "requests.memory": "1Gi"}))
    assert await used(api) == {"pods": "0", "requests.memory": "0"}
    for name in ("a", "b", "c"):
        await api.create(kinds.PODS, named(name, sized({"memory": "100Mi"})))
    assert await used(api) == {"pods": "3", "requests.memory": "300Mi"}
    await api.delete(kinds.PODS, "a")
    await api.patch(kinds.PODS, "b", {"status": {"phase": "Succeeded"}}, "status")
    assert await used(api) == {"pods": "1", "requests.memory": "100Mi"}


async def test_a_quota_counts_what_was_there_before_it(api: Api) -> None:
    await api.create(kinds.CONFIGMAPS, config_map("mine"))
    await api.create(QUOTAS, quota(hard={"configmaps": "3", "count/configmaps": "9"}))
    assert await used(api) == {"configmaps": "2", "count/configmaps": "2"}  # and kube-root-ca.crt


async def test_more_or_less_is_allowed_as_soon_as_the_quota_says_so(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"pods": "0"}))
    with pytest.raises(Forbidden):
        await api.create(kinds.PODS, pod())
    await api.patch(QUOTAS, "q", {"spec": {"hard": {"pods": "1", "secrets": "4"}}})
    await api.create(kinds.PODS, pod())
    assert (await api.get(QUOTAS, "q"))["status"] == {
        "hard": {"pods": "1", "secrets": "4"},
        "used": {"pods": "1", "secrets": "0"},
    }


async def test_pods_that_race_never_take_more_than_there_is(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"pods": "5"}))
    names = [f"p{number}" for number in range(20)]
    outcomes = await asyncio.gather(
        *(api.create(kinds.PODS, pod(name)) for name in names), return_exceptions=True
    )
    assert sum(isinstance(each, dict) for each in outcomes) == 5
    assert {type(each) for each in outcomes} == {dict, Forbidden}
    assert await used(api) == {"pods": "5"}
    await asyncio.gather(*(api.delete(kinds.PODS, n) for n in await api.names(kinds.PODS)))
    assert await used(api) == {"pods": "0"}


async def test_a_write_that_fails_gives_back_what_it_held(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"pods": "2"}))
    await api.create(kinds.PODS, pod("a"))
    for _ in range(3):
        with pytest.raises(Exception, match="already exists"):
            await api.create(kinds.PODS, pod("a"))
    await api.create(kinds.PODS, pod("b"))


async def test_a_dry_run_is_refused_alike_and_takes_nothing(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"pods": "1"}))
    await api.create(kinds.PODS, pod("a"), dry_run=True)
    await api.create(kinds.PODS, pod("a"))
    with pytest.raises(Forbidden):
        await api.create(kinds.PODS, pod("b"), dry_run=True)


async def test_a_new_server_counts_anew(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"pods": "2"}))
    await api.create(kinds.PODS, pod("a"))
    wrong = {"status": {"hard": {"pods": "2"}, "used": {"pods": "7"}}}
    await api.patch(QUOTAS, "q", wrong, "status")
    again = await started(api.store)
    assert await used(again) == {"pods": "1"}
    await again.create(kinds.PODS, pod("b"))
    with pytest.raises(Forbidden, match="used: pods=2"):
        await again.create(kinds.PODS, pod("c"))


SCOPES = [
    ({"scopes": ["BestEffort"]}, pod(), sized({"cpu": "1"})),
    ({"scopes": ["NotBestEffort"]}, sized({"cpu": "1"}), pod()),
    ({"scopes": ["Terminating"]}, pod(activeDeadlineSeconds=9), pod()),
    ({"scopes": ["NotTerminating"]}, pod(), pod(activeDeadlineSeconds=9)),
    ({"scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}},
     pod(priorityClassName="high"), pod()),
]  # fmt: skip


@pytest.mark.parametrize(("scope", "inside", "outside"), SCOPES)
async def test_a_scope_selects_the_pods_that_count(
    api: Api, scope: Object, inside: Object, outside: Object
) -> None:
    await api.create(kinds.PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 1})
    await api.create(QUOTAS, quota(hard={"pods": "1"}, **scope))
    await api.create(kinds.PODS, named("in", inside))
    await api.create(kinds.PODS, named("out", outside))
    assert await used(api) == {"pods": "1"}
    with pytest.raises(Forbidden, match="exceeded quota"):
        await api.create(kinds.PODS, named("more", inside))


async def test_services_and_claims_count_by_what_they_cost(api: Api) -> None:
    hard = {
        "services": "9", "services.nodeports": "2", "services.loadbalancers": "1",
        "requests.storage": "3Gi", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi",
    }  # fmt: skip
    await api.create(QUOTAS, quota(hard=hard))
    await api.create(kinds.SERVICES, service("a", type="NodePort"))
    gold = claim("c", "1Gi")
    gold["spec"]["storageClassName"] = "gold"
    await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, gold)
    await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, claim("d", "1Gi"))
    counted = await used(api)
    assert counted["services.nodeports"] == "1"
    assert counted["requests.storage"] == "2Gi"
    assert counted["gold.storageclass.storage.k8s.io/requests.storage"] == "1Gi"
    await api.patch(kinds.SERVICES, "a", {"spec": {"type": "LoadBalancer"}})
    assert (await used(api))["services.loadbalancers"] == "1"
    with pytest.raises(Forbidden, match=r"exceeded quota: q, requested: services\.loadbalancers=1"):
        await api.create(kinds.SERVICES, service("b", type="LoadBalancer"))
    await api.patch(kinds.SERVICES, "a", {"spec": {"type": "ClusterIP"}})
    assert (await used(api))["services.nodeports"] == "0"


async def test_what_the_cluster_itself_needs_is_not_refused(api: Api) -> None:
    await api.create(QUOTAS, quota(hard={"count/serviceaccounts": "0"}))
    await api.delete(kinds.SERVICE_ACCOUNTS, "default")
    await api.create(kinds.PODS, pod())


WRONG = [
    ({"hard": {"cpu": "much"}}, "spec.hard[cpu]"),
    ({"hard": {"cpu": "-1"}}, "spec.hard[cpu]"),
    ({"hard": {"a b": "1"}}, "spec.hard[a b]"),
    ({"hard": {"pods": "1"}, "scopes": ["Some"]}, "spec.scopes[0]"),
    ({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}, "spec.scopes"),
    ({"hard": {}, "scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In"}]}},
     "spec.scopeSelector.matchExpressions[0].values"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "path"), WRONG)
async def test_a_quota_that_cannot_be_counted_is_refused(api: Api, spec: Object, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        await api.create(QUOTAS, quota(**spec))
    assert path in {cause.field for cause in refused.value.causes}


async def test_custom_resources_count_and_are_counted_by_a_new_server(api: Api) -> None:
    await api.create(DEFINITIONS, crd())
    await api.create(QUOTAS, quota(hard={"count/crontabs.stable.example.com": "1"}))
    tab = {"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
           "spec": {"cronSpec": "* * * * *"}}  # fmt: skip
    await api.create(CRONTABS, tab)
    assert await used(api) == {"count/crontabs.stable.example.com": "1"}
    with pytest.raises(Forbidden, match="exceeded quota: q"):
        await api.create(CRONTABS, named("b", tab))
    again = await started(api.store)
    assert await used(again) == {"count/crontabs.stable.example.com": "1"}
    with pytest.raises(Forbidden, match="exceeded quota: q"):
        await again.create(CRONTABS, named("b", tab))
