"""Releases that fail go back by themselves, once, and say why."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.controllers import deployment, replicaset
from sampan.controllers.recovery import merge_patch
from tests.controllers.cluster import is_ready, running, start, until
from tests.controllers.memory_api import MemoryApi, merged
from tests.controllers.test_deployment_rollout import image_change, images, status, web

BOTH = (deployment.CONTROLLER, replicaset.CONTROLLER)
ROLLBACK = {"sampan.io/on-failure": "rollback"}
CRASHED: Object = {
    "name": "c",
    "ready": False,
    "restartCount": 1,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": {"terminated": {"exitCode": 3, "message": "no database\nbye\n"}},
}


def asking(replicas: int = 2, image: str = "v1", **spec: Any) -> Object:
    made = web(replicas, image, **spec)
    return {**made, "metadata": {**made["metadata"], "annotations": dict(ROLLBACK)}}


@asynccontextmanager
async def a_cluster(api: MemoryApi, does: Mapping[str, str]) -> AsyncIterator[None]:
    """Images do what *does* says: `crash`, `hang`, or anything else to serve."""

    async def play() -> None:
        while True:
            for pod in api.of(kinds.PODS):
                await act(pod)
            await asyncio.sleep(0.05)

    async def act(pod: Object) -> None:
        meta, what = pod["metadata"], does.get(pod["spec"]["containers"][0]["image"])
        if meta.get("deletionTimestamp"):
            api.gone(kinds.PODS, pod)
        elif what == "crash":
            if is_ready(pod) or not pod["spec"].get("nodeName"):
                await start(api, pod, ready=False)
                crashed = {"status": {"containerStatuses": [CRASHED]}}
                await api.patch(kinds.PODS, meta["name"], crashed, meta["namespace"])
        elif what != "hang" and not is_ready(pod):
            await start(api, pod)

    async with running(api, BOTH, play(), agents=False):
        yield


def verdicts(api: MemoryApi) -> dict[str, Object]:
    return {c["type"]: c for c in status(api).get("conditions", [])}


async def release(api: MemoryApi, image: str) -> None:
    await api.patch(kinds.DEPLOYMENTS, "web", image_change(image), "default")


def serves(api: MemoryApi, image: str, replicas: int = 2) -> bool:
    pods = api.of(kinds.PODS)
    wanted = api.of(kinds.DEPLOYMENTS)[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    ready = sum(is_ready(pod) for pod in pods)
    return wanted == image and images(api) == {image} and len(pods) == ready == replicas


async def test_a_release_that_crashes_is_taken_back_and_its_last_words_are_told() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, asking())
    async with a_cluster(api, {"bad": "crash"}):
        await until(lambda: serves(api, "v1"))
        await release(api, "bad")
        await until(lambda: "RolledBack" in verdicts(api) and serves(api, "v1"), within=10)
        await asyncio.sleep(30)
        assert serves(api, "v1")
    told = verdicts(api)["RolledBack"]
    assert (told["status"], told["reason"]) == ("True", "CrashLoopBackOff")
    assert told["message"].startswith("Revision 2 failed (CrashLoopBackOff); back to revision 1. ")
    assert told["message"].endswith("container c ended with exit code 3: no database\nbye")
    [event] = [e for e in api.of(kinds.EVENTS) if e["reason"] == "RolledBack"]
    assert (event["type"], event["message"], event["count"]) == ("Warning", told["message"], 1)


async def test_while_a_bad_release_is_tried_no_replica_is_missing() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, asking())
    async with a_cluster(api, {"bad": "crash"}):
        await until(lambda: serves(api, "v1"))
        await release(api, "bad")

        def whole() -> bool:
            assert sum(map(is_ready, api.of(kinds.PODS))) >= 2
            return "RolledBack" in verdicts(api) and serves(api, "v1")

        await until(whole, within=10)


async def test_a_release_that_never_serves_is_taken_back_at_its_deadline() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, asking(progressDeadlineSeconds=60))
    async with a_cluster(api, {"bad": "hang"}):
        await until(lambda: serves(api, "v1"))
        await release(api, "bad")
        await asyncio.sleep(55)
        assert "RolledBack" not in verdicts(api)
        await until(lambda: "RolledBack" in verdicts(api) and serves(api, "v1"), within=15)
        await asyncio.sleep(5)
    assert verdicts(api)["RolledBack"]["reason"] == "ProgressDeadlineExceeded"
    assert verdicts(api)["Progressing"]["reason"] == "NewReplicaSetAvailable"


async def test_a_release_that_starts_well_and_crashes_soon_after_is_taken_back() -> None:
    api, does = MemoryApi(), {"bad": "serve"}
    await api.create(kinds.DEPLOYMENTS, asking())
    async with a_cluster(api, does):
        await until(lambda: serves(api, "v1"))
        await release(api, "bad")
        await until(lambda: serves(api, "bad"))
        await asyncio.sleep(20)
        does["bad"] = "crash"
        await until(lambda: serves(api, "v1"), within=10)


async def test_what_crashes_long_after_its_release_stays() -> None:
    api, does = MemoryApi(), {"v2": "serve"}
    await api.create(kinds.DEPLOYMENTS, asking())
    async with a_cluster(api, does):
        await until(lambda: serves(api, "v1"))
        await release(api, "v2")
        await until(lambda: serves(api, "v2"))
        await asyncio.sleep(700)
        does["v2"] = "crash"
        await asyncio.sleep(60)
    assert images(api) == {"v2"}


async def test_what_was_gone_back_to_is_not_gone_back_from() -> None:
    api, does = MemoryApi(), {"v3": "crash"}
    await api.create(kinds.DEPLOYMENTS, asking())
    async with a_cluster(api, does):
        for image in ("v1", "v2"):
            await release(api, image)
            await until(lambda image=image: serves(api, image))  # type: ignore[misc]
        await release(api, "v3")
        await until(lambda: "RolledBack" in verdicts(api) and serves(api, "v2"))
        does |= {"v1": "serve", "v2": "crash"}
        await asyncio.sleep(60)
    assert images(api) == {"v2"}


async def test_the_same_bad_release_may_be_tried_again_and_a_good_one_ends_the_story() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, asking())
    async with a_cluster(api, {"bad": "crash"}):
        await until(lambda: serves(api, "v1"))
        for _ in range(2):
            await release(api, "bad")
            await until(lambda: any(i == "bad" for i in images(api)))
            await until(lambda: "RolledBack" in verdicts(api) and serves(api, "v1"), within=10)
        await release(api, "v2")
        await until(lambda: serves(api, "v2"))
        await asyncio.sleep(1)
    assert "RolledBack" not in verdicts(api)


async def test_without_the_annotation_a_failed_release_waits_for_a_person() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web(2, progressDeadlineSeconds=30))
    async with a_cluster(api, {"bad": "crash"}):
        await until(lambda: len(api.of(kinds.PODS)) == 2)
        await release(api, "bad")
        await asyncio.sleep(90)
    assert verdicts(api)["Progressing"]["reason"] == "ProgressDeadlineExceeded"
    assert "bad" in images(api)


async def test_a_first_release_that_fails_has_nothing_to_go_back_to() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, asking(image="bad", progressDeadlineSeconds=30))
    async with a_cluster(api, {"bad": "crash"}):
        await asyncio.sleep(90)
    assert images(api) == {"bad"}
    assert "RolledBack" not in verdicts(api)


async def test_what_describes_a_release_returns_with_it() -> None:
    api = MemoryApi()
    made = asking()
    made["metadata"]["annotations"] |= {"kubernetes.io/change-cause": "one", "team": "a"}
    await api.create(kinds.DEPLOYMENTS, made)
    async with a_cluster(api, {"bad": "crash"}):
        await until(lambda: serves(api, "v1"))
        notes = {"kubernetes.io/change-cause": "two", "sampan.io/applied": "{}", "team": "b"}
        patch = {"metadata": {"annotations": notes}, **image_change("bad")}
        await api.patch(kinds.DEPLOYMENTS, "web", patch, "default")
        await until(lambda: "RolledBack" in verdicts(api) and serves(api, "v1"), within=10)
    held = api.of(kinds.DEPLOYMENTS)[0]["metadata"]["annotations"]
    assert (held["kubernetes.io/change-cause"], held["team"]) == ("one", "b")
    assert "sampan.io/applied" not in held


scalars = st.integers() | st.text(max_size=3) | st.booleans()
trees = st.recursive(
    scalars,
    lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=2), t),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=2), trees, max_size=4)


@given(objects, objects)
def test_a_merge_patch_makes_the_new_of_the_old(old: Object, new: Object) -> None:
    assert merged(old, merge_patch(old, new), strategic=False) == new
    assert merge_patch(old, old) == {}


@pytest.mark.parametrize("note", ["", "[]", "7", "nonsense"])
async def test_a_broken_note_is_no_note(note: str) -> None:
    api = MemoryApi()
    made = asking()
    made["metadata"]["annotations"]["sampan.io/rolled-back"] = note
    await api.create(kinds.DEPLOYMENTS, made)
    async with a_cluster(api, {"bad": "crash"}):
        await until(lambda: serves(api, "v1"))
        await release(api, "bad")
        await until(lambda: "RolledBack" in verdicts(api) and serves(api, "v1"), within=10)
