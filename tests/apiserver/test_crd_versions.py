"""Several versions of a custom kind, by name only and by webhook; and how a kind ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from copy import deepcopy
from typing import Any

import pytest

from sampan.api.errors import InternalError, MethodNotAllowed, NotFound
from sampan.api.kinds import DEFINITIONS, Kind
from sampan.api.objects import Object
from sampan.apiserver.custom.kind import CustomKind
from tests.apiserver.crds import CRONTABS, GROUP, crd, crontab, define, schema, until, version
from tests.apiserver.support import Api

NAME = f"crontabs.{GROUP}"
BETA = Kind(GROUP, "v1beta1", "CronTab", "crontabs")
PLAIN = schema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
VERSIONS = [version(schema=PLAIN), version("v1beta1", storage=False, schema=PLAIN)]
WEBHOOK = {
    "strategy": "Webhook",
    "webhook": {
        "clientConfig": {"url": "https://127.0.0.1/convert"},
        "conversionReviewVersions": ["v1"],
    },
}


async def split(_config: Object, review: Object, _seconds: float) -> Object:
    """v1 has a host and a port where v1beta1 has one address."""
    request = review["request"]
    made = []
    for obj in deepcopy(request["objects"]):
        spec = obj["spec"]
        if request["desiredAPIVersion"].endswith("/v1"):
            spec["host"], _, spec["port"] = spec.pop("address").partition(":")
        else:
            spec["address"] = f"{spec.pop('host')}:{spec.pop('port')}"
        made.append({**obj, "apiVersion": request["desiredAPIVersion"]})
    result = {"status": "Success"}
    response = {"uid": request["uid"], "result": result, "convertedObjects": made}
    return {"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response}


@asynccontextmanager
async def followed(api: Api) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(api.registry.follow())
        yield
        follower.cancel()


async def gone(api: Api) -> None:
    async def missing() -> bool:
        return NAME not in await api.names(DEFINITIONS)

    await until(missing)


async def _is(asked: Awaitable[Any], wanted: Any) -> bool:
    return bool(await asked == wanted)


async def test_without_a_webhook_only_the_version_changes(api: Api) -> None:
    await define(api, crd(versions=VERSIONS))
    made = await api.create(BETA, {"apiVersion": BETA.api_version, **crontab(x=1)})
    assert made["apiVersion"] == f"{GROUP}/v1beta1"
    kept = await api.get(CRONTABS, "a")
    assert kept == {**made, "apiVersion": f"{GROUP}/v1"}
    [entry] = (await api.page(BETA)).items
    assert entry.object["apiVersion"] == f"{GROUP}/v1beta1"
    changed = await api.patch(BETA, "a", {"spec": {"x": 2}})
    assert changed["apiVersion"] == f"{GROUP}/v1beta1"
    assert (await api.get(CRONTABS, "a"))["spec"]["x"] == 2


async def test_a_webhook_converts_on_the_way_in_and_out(api: Api) -> None:
    api.registry.call_with(split)
    await define(api, crd(versions=VERSIONS, conversion=WEBHOOK))
    made = await api.create(BETA, {"metadata": {"name": "a"}, "spec": {"address": "h:1"}})
    assert made["spec"] == {"address": "h:1"}
    assert (await api.get(CRONTABS, "a"))["spec"] == {"host": "h", "port": "1"}
    assert (await api.get(BETA, "a"))["spec"] == {"address": "h:1"}
    [entry] = (await api.page(BETA)).items
    assert entry.object["spec"] == {"address": "h:1"}
    changed = await api.patch(BETA, "a", {"spec": {"address": "h:2"}})
    assert changed["spec"] == {"address": "h:2"}
    assert (await api.get(CRONTABS, "a"))["spec"]["port"] == "2"


async def test_watchers_get_the_version_that_they_asked_for(api: Api) -> None:
    api.registry.call_with(split)
    await define(api, crd(versions=VERSIONS, conversion=WEBHOOK))
    await api.create(CRONTABS, {"metadata": {"name": "a"}, "spec": {"host": "h", "port": "1"}})
    async with aclosing(api.watch(BETA)) as events:
        event = await anext(events)
        assert event.entry.object["spec"] == {"address": "h:1"}
        await api.delete(CRONTABS, "a")
        event = await anext(events)
        assert event.type == "DELETED"
        assert event.entry.object["spec"] == {"address": "h:1"}


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ({"result": {"status": "Failed", "message": "no way"}}, "no way"),
        ({"result": {"status": "Success"}, "uid": "other"}, "expected response.uid"),
        ({"result": {"status": "Success"}, "convertedObjects": []}, "expected 1 converted objects"),
    ],
)
async def test_a_webhook_that_fails_is_named_and_nothing_is_written(
    api: Api, response: Object, words: str
) -> None:
    async def answer(_config: Object, review: Object, _seconds: float) -> Object:
        return {"response": {"uid": review["request"]["uid"], **response}}

    api.registry.call_with(answer)
    await define(api, crd(versions=VERSIONS, conversion=WEBHOOK))
    with pytest.raises(InternalError, match=f"conversion webhook for .*CronTab failed: {words}"):
        await api.create(BETA, {"metadata": {"name": "a"}, "spec": {"address": "h:1"}})
    assert await api.names(CRONTABS) == []


async def test_a_webhook_may_not_change_who_an_object_is(api: Api) -> None:
    async def rename(config: Object, review: Object, seconds: float) -> Object:
        answer = await split(config, review, seconds)
        answer["response"]["convertedObjects"][0]["metadata"]["name"] = "other"
        return answer

    api.registry.call_with(rename)
    await define(api, crd(versions=VERSIONS, conversion=WEBHOOK))
    with pytest.raises(InternalError, match=r"it changed metadata\.name"):
        await api.create(BETA, {"metadata": {"name": "a"}, "spec": {"address": "h:1"}})


async def test_objects_of_an_older_storage_version_are_read_as_the_newer(api: Api) -> None:
    await define(api, crd(versions=VERSIONS))
    made = await api.create(CRONTABS, crontab(x=1))
    definition = deepcopy(await api.get(DEFINITIONS, NAME))
    definition["spec"]["versions"] = [
        {**VERSIONS[0], "storage": False}, {**VERSIONS[1], "storage": True},
    ]  # fmt: skip
    changed = await api.update(DEFINITIONS, definition)
    assert changed["spec"]["versions"][1]["storage"] is True
    found = await api.get(DEFINITIONS, NAME)
    assert found["status"]["storedVersions"] == ["v1", "v1beta1"]
    assert (await api.get(CRONTABS, "a")) == made
    [entry] = (await api.page(BETA)).items
    assert entry.object["apiVersion"] == f"{GROUP}/v1beta1"
    assert b'"resourceVersion":"%d"' % entry.revision in entry.data


async def test_the_objects_go_first_and_finalizers_are_waited_for(api: Api) -> None:
    await define(api)
    held = crontab("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(CRONTABS, held)
    await api.create(CRONTABS, crontab("free"))
    async with followed(api):
        await api.delete(DEFINITIONS, NAME)
        await until(lambda: _is(api.names(CRONTABS), ["held"]))
        await asyncio.sleep(30)
        assert (await api.get(DEFINITIONS, NAME))["metadata"]["finalizers"]
        await api.patch(CRONTABS, "held", {"metadata": {"finalizers": None}})
        await gone(api)
    assert api.registry.catalog.find(GROUP, "v1", "crontabs") is None


async def test_a_watch_tells_the_last_deletions_and_ends(api: Api) -> None:
    await define(api)
    await api.create(CRONTABS, crontab())
    seen: list[Any] = []
    async with followed(api):
        async with asyncio.TaskGroup() as group:

            async def watch() -> None:
                async with aclosing(api.watch(CRONTABS)) as events:
                    seen.extend(
                        [(e.type, e.entry.object["metadata"]["name"]) async for e in events]
                    )

            group.create_task(watch())
            await asyncio.sleep(1)
            await api.delete(DEFINITIONS, NAME)
        await gone(api)
    assert seen == [("ADDED", "a"), ("DELETED", "a")]


async def test_a_definition_whose_names_were_refused_goes_without_taking_anything_along(
    api: Api,
) -> None:
    await define(api)
    await api.create(CRONTABS, crontab())
    await define(api, crd("croptabs", "CropTab"))
    async with followed(api):
        await api.delete(DEFINITIONS, f"croptabs.{GROUP}")
        await until(lambda: _is(api.names(DEFINITIONS), [NAME]))
    assert await api.names(CRONTABS) == ["a"]


async def test_a_kind_that_is_not_defined_is_not_found(api: Api) -> None:
    for ask in (api.create(CRONTABS, crontab()), api.get(CRONTABS, "a"), api.names(CRONTABS)):
        with pytest.raises(NotFound, match="could not find the requested resource"):
            await ask


async def test_who_got_a_kind_before_its_end_creates_nothing_after(api: Api) -> None:
    await define(api)
    kind = api.registry.catalog.find(GROUP, "v1", "crontabs")
    assert isinstance(kind, CustomKind)
    async with followed(api):
        await api.delete(DEFINITIONS, NAME)
        await gone(api)
    with pytest.raises(MethodNotAllowed, match="terminating"):
        kind.check_alive("create")
