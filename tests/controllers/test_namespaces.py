"""What every namespace holds from the beginning, and how it ends."""

import asyncio
from datetime import timedelta

from sampan.api import kinds
from sampan.api.errors import ApiError, Forbidden
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.controllers import event_expiry, namespaces, root_ca, service_accounts
from sampan.controllers.contents import CONTENTS, SWEPT
from tests.controllers.cluster import labelled, namespace, pod, running, until
from tests.controllers.memory_api import EPOCH, MemoryApi

ALL = (namespaces.CONTROLLER, service_accounts.CONTROLLER, root_ca.controller("CA PEM"))


def the(api: MemoryApi, name: str = "default") -> Object | None:
    return api.objects[kinds.NAMESPACES].get(("", name))


def why(api: MemoryApi) -> dict[str, str]:
    held = the(api)
    conditions = held["status"].get("conditions", []) if held else []
    return {c["type"]: c["message"] for c in conditions if c["status"] == "True"}


async def test_every_namespace_gets_its_service_account_and_the_ca() -> None:
    api = MemoryApi()
    await api.create(kinds.NAMESPACES, namespace("default"))
    async with running(api, ALL):
        await api.create(kinds.NAMESPACES, namespace("later"))
        for space in ("default", "later"):
            await until(lambda s=space: (s, "default") in api.objects[kinds.SERVICE_ACCOUNTS])  # type: ignore[misc]
            await until(lambda s=space: (s, "kube-root-ca.crt") in api.objects[kinds.CONFIGMAPS])  # type: ignore[misc]
    held = api.objects[kinds.CONFIGMAPS]["later", "kube-root-ca.crt"]
    assert held["data"] == {"ca.crt": "CA PEM"}


async def test_what_belongs_to_every_namespace_is_restored() -> None:
    api = MemoryApi()
    await api.create(kinds.NAMESPACES, namespace("default"))

    def ca() -> str:
        held = api.objects[kinds.CONFIGMAPS].get(("default", "kube-root-ca.crt")) or {}
        return str((held.get("data") or {}).get("ca.crt"))

    async with running(api, ALL):
        await until(lambda: ca() == "CA PEM")
        await api.patch(
            kinds.CONFIGMAPS, "kube-root-ca.crt", {"data": {"ca.crt": "forged"}}, "default"
        )
        await until(lambda: ca() == "CA PEM")
        await api.delete(kinds.CONFIGMAPS, "kube-root-ca.crt", "default")
        await until(lambda: ca() == "CA PEM")
        await api.delete(kinds.SERVICE_ACCOUNTS, "default", "default")
        await until(lambda: len(api.of(kinds.SERVICE_ACCOUNTS)) == 1)


async def test_a_namespace_goes_with_everything_in_it_of_every_kind() -> None:
    api = MemoryApi()
    for name in ("default", "other"):
        await api.create(kinds.NAMESPACES, namespace(name))
        for kind in (*CONTENTS, *SWEPT):
            meta = {"name": f"a-{kind.singular}", "namespace": name}
            await api.create(kind, {"metadata": meta, "spec": {}})
    async with running(api, ALL):
        await asyncio.sleep(1)
        kept = {kind: len(api.of(kind, "other")) for kind in (*CONTENTS, *SWEPT)}
        await api.delete(kinds.NAMESPACES, "default")
        await until(lambda: the(api) is None)
        assert [kind for kind in (*CONTENTS, *SWEPT) if api.of(kind, "default")] == []
        assert kept == {kind: len(api.of(kind, "other")) for kind in (*CONTENTS, *SWEPT)}


async def test_a_namespace_waits_for_its_pods_and_says_so() -> None:
    api = MemoryApi()
    await api.create(kinds.NAMESPACES, namespace("default"))
    await api.create(kinds.PODS, pod("slow", "n1"))
    async with running(api, ALL, agents=False):
        await api.delete(kinds.NAMESPACES, "default")
        await until(lambda: "pods has 1" in why(api).get("NamespaceContentRemaining", ""))
        await asyncio.sleep(100)
        held = the(api)
        assert held
        assert held["status"]["phase"] == "Terminating"
        assert api.log.count(("MODIFIED", kinds.PODS, "slow")) == 1
        writes = len(api.log)
        await asyncio.sleep(100)
        assert len(api.log) == writes
        api.gone(kinds.PODS, api.of(kinds.PODS)[0])
        await until(lambda: the(api) is None, within=0.1)


async def test_a_finalizer_that_holds_a_namespace_is_named() -> None:
    api = MemoryApi()
    await api.create(kinds.NAMESPACES, namespace("default"))
    held = labelled("Deployment", "web")
    held["metadata"]["finalizers"] = ["example.org/backup"]
    await api.create(kinds.DEPLOYMENTS, held)
    async with running(api, ALL):
        await api.delete(kinds.NAMESPACES, "default")
        await until(
            lambda: "example.org/backup in 1" in why(api).get("NamespaceFinalizersRemaining", "")
        )
        await api.patch(kinds.DEPLOYMENTS, "web", {"metadata": {"finalizers": None}}, "default")
        await until(lambda: the(api) is None)


async def test_what_cannot_be_deleted_is_told_and_tried_again() -> None:
    api = MemoryApi()
    await api.create(kinds.NAMESPACES, namespace("default"))
    await api.create(kinds.PODS, pod("held"))

    def refuse(verb: str, kind: Kind) -> ApiError | None:
        return Forbidden("not yours") if (verb, kind) == ("delete", kinds.PODS) else None

    api.fault = refuse
    async with running(api, ALL, agents=False):
        await api.delete(kinds.NAMESPACES, "default")
        await until(lambda: "not yours" in why(api).get("NamespaceDeletionContentFailure", ""))
        api.fault = lambda _verb, _kind: None
        await until(lambda: the(api) is None)


async def test_events_are_forgotten_a_day_after_they_were_last_told() -> None:
    api = MemoryApi()
    await api.create(kinds.NAMESPACES, namespace("default"))
    for name, hours in (("old", -30), ("told-again", -23), ("new", 0)):
        last = timestamp(EPOCH + timedelta(hours=hours))
        meta = {"name": name, "namespace": "default"}
        await api.create(kinds.EVENTS, {"metadata": meta, "lastTimestamp": last})

    def names() -> set[str]:
        return {event["metadata"]["name"] for event in api.of(kinds.EVENTS)}

    async with running(api, (event_expiry.CONTROLLER,)):
        await until(lambda: names() == {"told-again", "new"})
        await asyncio.sleep(2 * 3600)
    assert names() == {"new"}
