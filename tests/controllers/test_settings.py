"""ConfigMaps and Secrets that change roll their users, and go back with a release that fails."""

import asyncio
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.controllers.roster import controllers
from sampan.controllers.settings import COPY_OF, KEPT, uses
from sampan.controllers.views import content_digest
from tests.controllers.cluster import add_node, is_ready, labelled, running, start, until
from tests.controllers.memory_api import MemoryApi

EVERYONE = controllers("CA")
ENV = [
    {"configMapRef": {"name": "app"}},
    {"secretRef": {"name": "password"}},
]


def user(kind: str = "Deployment", **notes: str) -> Object:
    made = labelled(kind, "web", replicas=1)
    made["metadata"]["annotations"] = {"sampan.io/on-change": "restart", **notes}
    made["spec"]["template"]["spec"]["containers"][0]["envFrom"] = ENV
    if kind == "DaemonSet":
        del made["spec"]["replicas"]
    return made


async def put(api: MemoryApi, kind: Kind, name: str, **data: str) -> None:
    made = {"metadata": {"name": name, "namespace": "default"}, "data": data}
    if ("default", name) in api.objects[kind]:
        await api.patch(kind, name, {"data": data}, "default")
    else:
        await api.create(kind, made)


async def a_cluster(*workloads: Object) -> MemoryApi:
    api = MemoryApi()
    await add_node(api, "n1")
    await put(api, kinds.CONFIGMAPS, "app", mode="old")
    await put(api, kinds.SECRETS, "password", password="b25l")
    for workload in workloads:
        await api.create(kinds.BY_GVK["apps/v1", workload["kind"]], workload)
    return api


async def play(api: MemoryApi) -> None:
    """Start Pods on n1; those that start while the mode is `bad` crash."""
    bad: set[str] = set()
    while True:
        for pod in api.of(kinds.PODS):
            meta = pod["metadata"]
            if meta.get("deletionTimestamp"):
                api.gone(kinds.PODS, pod)
            elif meta["uid"] not in bad and not is_ready(pod):
                mode = api.objects[kinds.CONFIGMAPS]["default", "app"]["data"]["mode"]
                await start(api, pod, ready=mode != "bad")
                if mode == "bad":
                    bad.add(meta["uid"])
                    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
                    crashed = [{"name": "c", "restartCount": 1, "state": waiting}]
                    status = {"status": {"containerStatuses": crashed}}
                    await api.patch(kinds.PODS, meta["name"], status, meta["namespace"])
        await asyncio.sleep(0.05)


def names(api: MemoryApi) -> set[str]:
    return {p["metadata"]["name"] for p in api.of(kinds.PODS) if is_ready(p)}


async def settled(api: MemoryApi) -> set[str]:
    await until(lambda: len(names(api)) == len(api.of(kinds.PODS)) == 1)
    await asyncio.sleep(2)
    return names(api)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
async def test_a_new_content_rolls_the_workload_once(kind: str) -> None:
    api = await a_cluster(user(kind))
    async with running(api, EVERYONE, play(api), agents=False):
        before = [p["metadata"]["uid"] for p in api.of(kinds.PODS)] if await settled(api) else []
        assert before
        await put(api, kinds.SECRETS, "password", password="dHdv")
        await until(lambda: [p["metadata"]["uid"] for p in api.of(kinds.PODS)] != before)
        await settled(api)
        after = [p["metadata"]["uid"] for p in api.of(kinds.PODS)]
        await asyncio.sleep(60)
        assert [p["metadata"]["uid"] for p in api.of(kinds.PODS)] == after
    told = [e["message"] for e in api.of(kinds.EVENTS) if e["reason"] == "SettingsChanged"]
    assert told == ["Rolling: Secret/password changed"]


async def test_what_is_no_change_of_content_rolls_nothing() -> None:
    api = await a_cluster(user())
    async with running(api, EVERYONE, play(api), agents=False):
        before = await settled(api)
        label = {"metadata": {"labels": {"team": "a"}}}
        await api.patch(kinds.CONFIGMAPS, "app", label, "default")
        await put(api, kinds.CONFIGMAPS, "other", mode="new")
        await api.delete(kinds.SECRETS, "password", "default")
        await asyncio.sleep(5)
        await put(api, kinds.SECRETS, "password", password="b25l")
        await asyncio.sleep(5)
        assert await settled(api) == before
    assert len(api.of(kinds.REPLICA_SETS)) == 1


async def test_what_comes_later_rolls_nothing_and_without_the_annotation_nothing_does() -> None:
    quiet = user()
    quiet["metadata"]["annotations"] = {"sampan.io/on-change": "none"}
    for workload in (user(), quiet):
        api = await a_cluster(workload)
        await api.delete(kinds.SECRETS, "password", "default")
        async with running(api, EVERYONE, play(api), agents=False):
            before = await settled(api)
            await put(api, kinds.SECRETS, "password", password="b25l")
            if workload is quiet:
                await put(api, kinds.CONFIGMAPS, "app", mode="new")
            await asyncio.sleep(5)
            assert await settled(api) == before


async def test_a_bad_value_goes_back_with_the_release() -> None:
    api = await a_cluster(user(**{"sampan.io/on-failure": "rollback"}))
    async with running(api, EVERYONE, play(api), agents=False):
        await settled(api)
        await put(api, kinds.CONFIGMAPS, "app", mode="bad")
        await until(lambda: mode(api) == "old", within=20)
        await settled(api)
        assert mode(api) == "old"
        await put(api, kinds.CONFIGMAPS, "app", mode="good")
        await asyncio.sleep(10)
        await settled(api)
        assert mode(api) == "good"
        [deployment] = api.of(kinds.DEPLOYMENTS)
        conditions = {c["type"] for c in deployment["status"]["conditions"]}
        assert "RolledBack" not in conditions
    reasons = [e["reason"] for e in api.of(kinds.EVENTS)]
    assert reasons.count("RolledBack") == reasons.count("SettingsRestored") == 1


def mode(api: MemoryApi) -> Any:
    return api.objects[kinds.CONFIGMAPS]["default", "app"]["data"]["mode"]


async def test_the_last_few_contents_are_kept_and_belong_to_the_original() -> None:
    api = await a_cluster(user(**{"sampan.io/on-failure": "rollback"}))
    async with running(api, EVERYONE, play(api), agents=False):
        for number in range(8):
            await put(api, kinds.CONFIGMAPS, "app", mode=str(number))
            await asyncio.sleep(5)
        copies = copies_of(api, "app")
        assert len(copies) == KEPT
        present = content_digest(api.objects[kinds.CONFIGMAPS]["default", "app"])
        assert f"app.{present}" in copies
        await api.delete(kinds.CONFIGMAPS, "app", "default")
        await until(lambda: not copies_of(api, "app"))


def copies_of(api: MemoryApi, name: str) -> list[str]:
    return [
        c["metadata"]["name"]
        for c in api.of(kinds.CONFIGMAPS)
        if (c["metadata"].get("annotations") or {}).get(COPY_OF) == name and c["immutable"]
    ]


SOURCES = [{"configMap": {"name": "p"}}, {"secret": {"name": "q"}}]


def test_every_way_to_use_settings_is_seen() -> None:
    spec = {
        "volumes": [
            {"name": "a", "configMap": {"name": "files"}},
            {"name": "b", "secret": {"secretName": "keys"}},
            {"name": "c", "projected": {"sources": SOURCES}},
            {"name": "d", "emptyDir": {}},
        ],
        "initContainers": [{"envFrom": [{"configMapRef": {"name": "init"}}]}],
        "containers": [
            {
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "two", "key": "k"}}},
                    {"name": "C", "value": "x"},
                ],
                "envFrom": [{"secretRef": {"name": "all"}}],
            }
        ],
    }  # fmt: skip
    assert uses({"spec": spec}) == [
        "ConfigMap/files", "ConfigMap/init", "ConfigMap/one", "ConfigMap/p",
        "Secret/all", "Secret/keys", "Secret/q", "Secret/two",
    ]  # fmt: skip
    assert uses({}) == []
