"""What other objects decide about a new Pod."""

from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Forbidden
from sampan.apiserver.admission import TOKEN_PATH
from tests.apiserver.support import Api, pod


def mounts(made: dict[str, Any]) -> list[str]:
    return [m["mountPath"] for m in made["spec"]["containers"][0].get("volumeMounts", ())]


async def test_a_pod_gets_the_token_of_its_account(api: Api) -> None:
    made = await api.create(kinds.PODS, pod())
    spec = made["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    [volume] = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    assert mounts(made) == [TOKEN_PATH]


async def test_pod_or_account_may_refuse_the_token(api: Api) -> None:
    assert mounts(await api.create(kinds.PODS, pod("a", automountServiceAccountToken=False))) == []
    account = {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False}
    await api.create(kinds.SERVICE_ACCOUNTS, account)
    quiet = await api.create(kinds.PODS, pod("b", serviceAccountName="quiet"))
    assert mounts(quiet) == []
    loud = pod("c", serviceAccountName="quiet", automountServiceAccountToken=True)
    assert mounts(await api.create(kinds.PODS, loud)) == [TOKEN_PATH]


async def test_a_mount_of_ones_own_at_that_place_stays(api: Api) -> None:
    made = pod(volumes=[{"name": "mine", "emptyDir": {}}])
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "mine", "mountPath": TOKEN_PATH}]
    created = await api.create(kinds.PODS, made)
    assert [volume["name"] for volume in created["spec"]["volumes"]] == ["mine"]


async def test_an_account_gives_its_pull_secrets(api: Api) -> None:
    account = {"metadata": {"name": "puller"}, "imagePullSecrets": [{"name": "registry"}]}
    await api.create(kinds.SERVICE_ACCOUNTS, account)
    made = await api.create(kinds.PODS, pod(serviceAccountName="puller"))
    assert made["spec"]["imagePullSecrets"] == [{"name": "registry"}]


async def test_an_absent_account_is_named(api: Api) -> None:
    with pytest.raises(Forbidden, match="error looking up service account default/ghost"):
        await api.create(kinds.PODS, pod(serviceAccountName="ghost"))


async def test_a_class_gives_its_priority(api: Api) -> None:
    high = {"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}
    await api.create(kinds.PRIORITY_CLASSES, high)
    spec = (await api.create(kinds.PODS, pod(priorityClassName="high")))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")


async def test_the_default_class_is_for_who_names_none(api: Api) -> None:
    plain = (await api.create(kinds.PODS, pod("a")))["spec"]
    assert (plain["priority"], plain["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    usual = {"metadata": {"name": "usual"}, "value": 7, "globalDefault": True}
    await api.create(kinds.PRIORITY_CLASSES, usual)
    spec = (await api.create(kinds.PODS, pod("b")))["spec"]
    assert (spec["priority"], spec["priorityClassName"]) == (7, "usual")


async def test_a_priority_cannot_be_claimed(api: Api) -> None:
    with pytest.raises(Forbidden, match="no PriorityClass with name ghost was found"):
        await api.create(kinds.PODS, pod(priorityClassName="ghost"))
    with pytest.raises(Forbidden, match=r"the integer value of priority \(9\) must not be"):
        await api.create(kinds.PODS, pod(priority=9))


async def test_no_toleration_is_added_that_would_keep_pods_on_dead_nodes(api: Api) -> None:
    assert "tolerations" not in (await api.create(kinds.PODS, pod()))["spec"]
