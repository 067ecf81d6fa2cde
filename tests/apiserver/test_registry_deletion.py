"""What deleting means: grace, finalizers, propagation, namespaces."""

import asyncio
from contextlib import aclosing

import pytest

from sampan.api import kinds
from sampan.api.errors import Conflict, Forbidden, Invalid, NotFound
from sampan.apiserver.interface import Call, DeleteOptions, ListOptions, Place
from sampan.store.memory import MemoryStore
from tests.apiserver.support import Api, bound, config_map, deployment, pod, started


async def test_a_plain_object_goes_at_once(api: Api) -> None:
    made = await api.create(kinds.CONFIGMAPS, config_map())
    gone = await api.delete(kinds.CONFIGMAPS, "c")
    assert gone["status"] == "Success"
    assert gone["details"] == {"name": "c", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    with pytest.raises(NotFound):
        await api.get(kinds.CONFIGMAPS, "c")


async def test_a_bound_pod_gets_its_grace(api: Api) -> None:
    await bound(api, terminationGracePeriodSeconds=7)
    marked = await api.delete(kinds.PODS, "web")
    meta = marked["metadata"]
    assert meta["deletionTimestamp"] == "2026-01-01T00:00:07Z"
    assert meta["deletionGracePeriodSeconds"] == 7
    assert (await api.delete(kinds.PODS, "web", grace_seconds=0))["status"] == "Success"


async def test_grace_is_shortened_and_never_lengthened(api: Api) -> None:
    await bound(api)
    first = await api.delete(kinds.PODS, "web")
    api.clock.pass_(2)
    assert await api.delete(kinds.PODS, "web", grace_seconds=60) == first
    shorter = await api.delete(kinds.PODS, "web", grace_seconds=5)
    assert shorter["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:05Z"


async def test_a_pod_that_runs_nowhere_goes_at_once(api: Api) -> None:
    await api.create(kinds.PODS, pod("unbound"))
    assert (await api.delete(kinds.PODS, "unbound"))["status"] == "Success"
    await bound(api, "done")
    await api.patch(kinds.PODS, "done", {"status": {"phase": "Succeeded"}}, "status")
    assert (await api.delete(kinds.PODS, "done"))["status"] == "Success"


async def test_a_finalizer_keeps_an_object_until_it_is_taken_away(api: Api) -> None:
    held = config_map()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(kinds.CONFIGMAPS, held)
    marked = await api.delete(kinds.CONFIGMAPS, "c")
    assert marked["metadata"]["deletionTimestamp"]
    again = await api.delete(kinds.CONFIGMAPS, "c")
    assert again == marked
    await api.patch(kinds.CONFIGMAPS, "c", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await api.get(kinds.CONFIGMAPS, "c")


async def test_no_finalizer_is_added_to_what_is_going(api: Api) -> None:
    held = config_map()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(kinds.CONFIGMAPS, held)
    await api.delete(kinds.CONFIGMAPS, "c")
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    with pytest.raises(Invalid, match="no new finalizers can be added"):
        await api.patch(kinds.CONFIGMAPS, "c", more)


@pytest.mark.parametrize(
    ("propagation", "finalizer"),
    [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")],
)
async def test_propagation_is_left_to_the_garbage_collector(
    api: Api, propagation: str, finalizer: str
) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment())
    marked = await api.delete(kinds.DEPLOYMENTS, "web", propagation=propagation)
    assert marked["metadata"]["finalizers"] == [finalizer]
    assert marked["metadata"]["generation"] == 2


async def test_background_needs_no_finalizer(api: Api) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment())
    gone = await api.delete(kinds.DEPLOYMENTS, "web", propagation="Background")
    assert gone["kind"] == "Status"


async def test_preconditions_guard_a_deletion(api: Api) -> None:
    made = await api.create(kinds.CONFIGMAPS, config_map())
    with pytest.raises(Conflict, match="UID in precondition: other"):
        await api.delete(kinds.CONFIGMAPS, "c", uid="other")
    with pytest.raises(Conflict, match="ResourceVersion in precondition: 1"):
        await api.delete(kinds.CONFIGMAPS, "c", revision="1")
    await api.delete(kinds.CONFIGMAPS, "c", uid=made["metadata"]["uid"])


async def test_a_dry_run_deletes_nothing(api: Api) -> None:
    await api.create(kinds.CONFIGMAPS, config_map())
    place = Place(kinds.CONFIGMAPS, "default", "c")
    await api.registry.delete(place, DeleteOptions(), Call(dry_run=True))
    assert await api.get(kinds.CONFIGMAPS, "c")


async def test_a_namespace_terminates_until_it_is_finalized(api: Api) -> None:
    await api.create(kinds.NAMESPACES, {"metadata": {"name": "team"}})
    marked = await api.delete(kinds.NAMESPACES, "team")
    assert marked["status"]["phase"] == "Terminating"
    with pytest.raises(Forbidden, match="because it is being terminated"):
        await api.create(kinds.CONFIGMAPS, config_map(), namespace="team")
    await api.update(kinds.NAMESPACES, {**marked, "spec": {"finalizers": []}}, "finalize")
    with pytest.raises(NotFound):
        await api.get(kinds.NAMESPACES, "team")


class Unhurried(MemoryStore):
    """Lets others go first when an account is written."""

    async def write(self, key: str, value: bytes | None, *, expect: int) -> int:
        if "serviceaccounts" in key:
            await asyncio.sleep(1)
        return await super().write(key, value, expect=expect)


async def test_a_namespace_may_be_deleted_while_it_is_being_furnished() -> None:
    api = await started(Unhurried())
    since = str(api.store.revision)

    async def delete_at_once() -> None:
        async with aclosing(api.watch(kinds.NAMESPACES, since=since)) as events:
            await anext(events)
            await api.delete(kinds.NAMESPACES, "team")

    made, _ = await asyncio.gather(
        api.create(kinds.NAMESPACES, {"metadata": {"name": "team"}}), delete_at_once()
    )
    assert made["metadata"]["name"] == "team"
    assert (await api.get(kinds.NAMESPACES, "team"))["status"]["phase"] == "Terminating"


async def test_an_update_cannot_finalize_a_namespace(api: Api) -> None:
    await api.create(kinds.NAMESPACES, {"metadata": {"name": "team"}})
    updated = await api.patch(kinds.NAMESPACES, "team", {"spec": {"finalizers": []}})
    assert updated["spec"] == {"finalizers": ["kubernetes"]}


async def test_the_namespaces_that_every_cluster_keeps_stay(api: Api) -> None:
    with pytest.raises(Forbidden, match="this namespace may not be deleted"):
        await api.delete(kinds.NAMESPACES, "kube-system")


async def test_a_collection_is_deleted_by_its_selector(api: Api) -> None:
    for number in range(100):
        labelled = config_map(f"c{number}")
        labelled["metadata"]["labels"] = {"odd": str(number % 2)}
        await api.create(kinds.CONFIGMAPS, labelled)
    place = Place(kinds.CONFIGMAPS, "default")
    page = await api.registry.delete_collection(
        place, ListOptions(labels="odd=1"), DeleteOptions(), Call()
    )
    assert len(page.items) == 50
    assert len(await api.names(kinds.CONFIGMAPS, labels="odd")) == 50
