"""Lists, watches and forms on the wire."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
import yaml  # type: ignore[import-untyped]

from sampan.api import kinds
from sampan.apiserver.http.metrics import Counted, Metrics
from tests.apiserver.http.support import Live, until

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


async def make(live: Live, name: str, **data: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "labels": {"name": name}}
    return await live.make(kinds.CONFIGMAPS, {"metadata": meta, "data": data})


async def test_a_list_is_the_stored_objects_joined(live: Live) -> None:
    for name in ("a", "b"):
        await make(live, name, key=name)
    page = (await live.request("GET", CONFIGMAPS)).json
    assert (page["kind"], page["apiVersion"]) == ("ConfigMapList", "v1")
    assert [item["data"]["key"] for item in page["items"]] == ["a", "b"]
    newest = max(int(item["metadata"]["resourceVersion"]) for item in page["items"])
    assert int(page["metadata"]["resourceVersion"]) >= newest


async def test_pages_follow_each_other(live: Live) -> None:
    for name in ("a", "b", "c"):
        await make(live, name)
    first = (await live.request("GET", CONFIGMAPS + "?limit=2")).json
    assert first["metadata"]["remainingItemCount"] == 1
    token = first["metadata"]["continue"]
    second = (await live.request("GET", f"{CONFIGMAPS}?limit=2&continue={token}")).json
    names = [item["metadata"]["name"] for page in (first, second) for item in page["items"]]
    assert names == ["a", "b", "c"]
    assert "continue" not in second["metadata"]


async def test_selectors_choose(live: Live) -> None:
    for name in ("a", "b"):
        await make(live, name)
    for query in ("labelSelector=name%3Db", "fieldSelector=metadata.name%3Db"):
        page = (await live.request("GET", f"{CONFIGMAPS}?{query}")).json
        assert [item["metadata"]["name"] for item in page["items"]] == ["b"]


async def test_a_table_has_columns_rows_and_as_much_object_as_asked(live: Live) -> None:
    await make(live, "a", key="x")
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = (await live.request("GET", CONFIGMAPS, Accept=accept)).json
    assert table["kind"] == "Table"
    assert table["columnDefinitions"][0]["name"] == "Name"
    assert table["rows"][0]["cells"][:2] == ["a", 1]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = await live.request("GET", CONFIGMAPS + "?includeObject=Object", Accept=accept)
    assert whole.json["rows"][0]["object"]["data"] == {"key": "x"}
    bare = await live.request("GET", CONFIGMAPS + "/a?includeObject=None", Accept=accept)
    assert "object" not in bare.json["rows"][0]


async def test_metadata_only(live: Live) -> None:
    await make(live, "a", key="x")
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    page = (await live.request("GET", CONFIGMAPS, Accept=accept)).json
    assert page["kind"] == "PartialObjectMetadataList"
    assert "data" not in page["items"][0]
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    one = (await live.request("GET", CONFIGMAPS + "/a", Accept=accept)).json
    assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "a")


async def test_yaml_pretty_and_head(live: Live) -> None:
    await make(live, "a", day="2024-01-01")
    answer = await live.request("GET", CONFIGMAPS + "/a", Accept="application/yaml")
    assert answer.headers["Content-Type"].startswith("application/yaml")
    assert yaml.safe_load(answer.body)["data"] == {"day": "2024-01-01"}
    pretty = await live.request("GET", CONFIGMAPS + "/a?pretty=true")
    assert b'\n  "kind": "ConfigMap"' in pretty.body
    head = await live.request("HEAD", CONFIGMAPS + "/a")
    assert (head.status, head.body) == (200, b"")


async def test_yaml_can_be_sent(live: Live) -> None:
    body = b"metadata:\n  name: a\ndata:\n  day: 2024-01-01\n"
    answer = await live.request("POST", CONFIGMAPS, body, Content_Type="application/yaml")
    assert (answer.status, answer.json.get("data")) == (201, {"day": "2024-01-01"})


async def test_a_big_answer_is_packed_for_who_can_unpack(live: Live) -> None:
    await make(live, "a", big="x" * 200_000)
    packed = await live.request("GET", CONFIGMAPS, Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.json["items"]) == 1
    plain = await live.request("GET", CONFIGMAPS, Accept_Encoding="identity")
    assert "Content-Encoding" not in plain.headers


async def test_a_dry_run_changes_nothing_and_a_manager_is_named_after_its_agent(live: Live) -> None:
    body = {"metadata": {"name": "a"}, "data": {"k": "v"}}
    answer = await live.request("POST", CONFIGMAPS + "?dryRun=All", body)
    assert answer.status == 201
    assert (await live.request("GET", CONFIGMAPS + "/a")).status == 404
    answer = await live.request("POST", CONFIGMAPS, body, User_Agent="ship/1.2 (sea)")
    assert [f["manager"] for f in answer.json["metadata"]["managedFields"]] == ["ship"]


async def test_deletecollection_takes_what_is_selected(live: Live) -> None:
    for name in ("a", "b"):
        await make(live, name)
    answer = await live.request("DELETE", CONFIGMAPS + "?labelSelector=name%3Da")
    assert (answer.status, len(answer.json["items"])) == (200, 1)
    left = (await live.request("GET", CONFIGMAPS)).json["items"]
    assert [item["metadata"]["name"] for item in left] == ["b"]


@asynccontextmanager
async def watching(
    live: Live, query: str, tls: ssl.SSLContext | None = None, **headers: str
) -> AsyncIterator[AsyncIterator[Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{live.url}{CONFIGMAPS}?watch=1&{query}", ssl=tls or live.admin_tls, headers=headers
        ) as response,
    ):
        assert response.status == 200

        async def events() -> AsyncIterator[Any]:
            async for line in response.content:
                yield orjson.loads(line)

        async with asyncio.timeout(10):
            yield events()


async def test_a_watch_tells_what_is_there_and_then_what_changes(live: Live) -> None:
    await make(live, "a")
    async with watching(live, "") as events:
        seen = [await anext(events)]
        await make(live, "b")
        await live.request("DELETE", CONFIGMAPS + "/a")
        seen += [await anext(events), await anext(events)]
    told = [(event["type"], event["object"]["metadata"]["name"]) for event in seen]
    assert told == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


async def test_a_watch_from_a_revision_misses_nothing(live: Live) -> None:
    since = (await make(live, "a"))["metadata"]["resourceVersion"]
    for name in ("b", "c"):
        await make(live, name)
    async with watching(live, f"resourceVersion={since}") as events:
        names = [(await anext(events))["object"]["metadata"]["name"] for _ in range(2)]
    assert names == ["b", "c"]


async def test_initial_events_end_with_a_bookmark(live: Live) -> None:
    await make(live, "a")
    query = "sendInitialEvents=1&allowWatchBookmarks=1&resourceVersionMatch=NotOlderThan"
    async with watching(live, query) as events:
        assert (await anext(events))["type"] == "ADDED"
        mark = await anext(events)
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_of_tables_tells_its_columns_once(live: Live) -> None:
    for name in ("a", "b"):
        await make(live, name)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    async with watching(live, "", Accept=accept) as events:
        first, second = (await anext(events))["object"], (await anext(events))["object"]
    assert first["columnDefinitions"]
    assert not second["columnDefinitions"]
    assert second["rows"][0]["cells"][0] == "b"


async def test_a_burst_arrives_whole_and_in_order(live: Live) -> None:
    async with watching(live, "") as events:
        await asyncio.gather(*(make(live, f"n{i:03}") for i in range(300)))
        seen = [await anext(events) for _ in range(300)]
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in seen]
    assert revisions == sorted(revisions)


async def test_a_watch_ends_in_good_order_at_its_time(live: Live) -> None:
    async with watching(live, "timeoutSeconds=1") as events:
        assert [event async for event in events] == []


async def test_a_client_that_leaves_ends_its_watch_at_once(live: Live) -> None:
    async with watching(live, ""):
        await until(lambda: live.server.open_watches() == 1)
    await until(lambda: live.server.open_watches() == 0)


async def test_history_that_is_gone_is_told_as_an_error_event(live: Live) -> None:
    since = (await make(live, "a"))["metadata"]["resourceVersion"]
    await make(live, "b")
    store = live.registry._store
    await store.compact(store.revision)
    async with watching(live, f"resourceVersion={since}") as events:
        event = await anext(events)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        assert event["object"]["reason"] == "Expired"
        assert [late async for late in events] == []


async def test_a_stopping_server_ends_its_watches(live: Live) -> None:
    async with watching(live, "") as events:
        await until(lambda: live.server.open_watches() == 1)
        live.server.end_watches()
        assert [event async for event in events] == []


async def test_discovery_is_told_in_both_forms(live: Live) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = await live.request("GET", "/apis", Accept=accept)
    assert "as=APIGroupDiscoveryList" in answer.headers["Content-Type"]
    assert answer.json["kind"] == "APIGroupDiscoveryList"
    assert (await live.request("GET", "/apis")).json["kind"] == "APIGroupList"
    assert (await live.request("GET", "/apis/apps")).json["preferredVersion"]["version"] == "v1"
    names = [r["name"] for r in (await live.request("GET", "/api/v1")).json["resources"]]
    assert {"pods", "pods/log", "nodes"} <= set(names)


async def test_openapi_is_served(live: Live) -> None:
    index = (await live.request("GET", "/openapi/v3")).json
    path = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    document = (await live.request("GET", path)).json
    assert "io.k8s.api.apps.v1.Deployment" in document["components"]["schemas"]
    assert (await live.request("GET", "/openapi/v3/apis/none/v1")).status == 404
    assert (await live.request("GET", "/openapi/v2")).json["swagger"] == "2.0"


async def test_a_document_is_not_sent_to_who_has_it(live: Live) -> None:
    path = "/openapi/v3/apis/apps/v1"
    first = await live.request("GET", path, Accept_Encoding="gzip")
    plain = await live.request("GET", path, Accept_Encoding="identity")
    assert first.json == plain.json
    assert len(plain.body) == len(first.body)  # aiohttp has unpacked the first one
    again = await live.request("GET", path, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    proto = await live.request(
        "GET", "/openapi/v2", Accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    )
    assert "protobuf" in proto.headers["Content-Type"]
    assert proto.headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
async def test_anyone_may_ask_whether_it_is_well(live: Live, path: str) -> None:
    answer = await live.request("GET", path, tls=live.tls())
    assert (answer.status, answer.body) == (200, b"ok")


async def test_metrics_count_requests(live: Live) -> None:
    await live.request("GET", CONFIGMAPS)
    text = (await live.request("GET", "/metrics")).body.decode()
    assert 'apiserver_request_total{verb="LIST",group="",resource="configmaps"' in text
    assert "sampan_open_watches 0" in text


async def test_the_openid_documents_name_the_key(live: Live) -> None:
    [key] = (await live.request("GET", "/openid/v1/jwks")).json["keys"]
    assert (key["kty"], key["crv"], "d" in key) == ("EC", "P-256", False)
    document = (await live.request("GET", "/.well-known/openid-configuration")).json
    assert document["jwks_uri"].endswith("/openid/v1/jwks")


def test_a_duration_counts_in_every_bucket_that_holds_it() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.05, 0.1, 60.0):
        metrics.count(Counted("get"), 200, seconds)
    buckets = [
        int(line.rpartition(" ")[2]) for line in metrics.text({}).splitlines() if "_bucket" in line
    ]
    assert buckets == [1, 1, 3, 3, 3, 3, 3, 3, 3, 4]


async def test_an_answer_does_not_tell_what_the_server_is_made_of(live: Live) -> None:
    for path in ("/livez", CONFIGMAPS, "/nowhere"):
        assert "Server" not in (await live.request("GET", path)).headers
