"""Lists in pages, and watches as a client sees them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from sampan.api import kinds
from sampan.api.errors import BadRequest, Expired, Timeout
from sampan.api.kinds import BY_GVK
from sampan.apiserver import listing
from sampan.apiserver.interface import Event, Place
from sampan.apiserver.watching import SILENCE
from tests.apiserver.support import Api, bound, config_map, pod

LABELLED = {"metadata": {"labels": {"app": "web"}}}


async def some(api: Api, count: int) -> None:
    for number in range(count):
        await api.create(kinds.LEASES, {"metadata": {"name": f"l{number}"}})


async def test_pages_fit_together_although_others_write(api: Api) -> None:
    await some(api, 7)
    first = await api.page(kinds.LEASES, limit=3)
    assert (len(first.items), first.remaining) == (3, 4)
    await api.delete(kinds.LEASES, "l4")
    await api.create(kinds.LEASES, {"metadata": {"name": "l3a"}})
    second = await api.page(kinds.LEASES, limit=3, continue_=first.continue_)
    last = await api.page(kinds.LEASES, limit=3, continue_=second.continue_)
    names = [e.object["metadata"]["name"] for p in (first, second, last) for e in p.items]
    assert names == [f"l{number}" for number in range(7)]
    assert {page.revision for page in (first, second, last)} == {first.revision}
    assert (last.continue_, last.remaining) == ("", None)


async def test_a_page_that_is_exactly_full_is_the_last(api: Api) -> None:
    await some(api, 3)
    assert (await api.page(kinds.LEASES, limit=3)).continue_ == ""


async def test_a_selector_fills_pages_with_what_matches(api: Api) -> None:
    await some(api, 6)
    for name in ("l1", "l4", "l5"):
        await api.patch(kinds.LEASES, name, LABELLED)
    first = await api.page(kinds.LEASES, limit=2, labels="app=web")
    second = await api.page(kinds.LEASES, limit=2, labels="app=web", continue_=first.continue_)
    assert [len(first.items), len(second.items)] == [2, 1]
    assert first.remaining is None


async def test_a_forgotten_snapshot_is_told_with_a_way_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SNAPSHOTS", 1)
    await some(api, 4)
    first = await api.page(kinds.LEASES, limit=2)
    await api.page(kinds.LEASES, limit=2)
    with pytest.raises(Expired) as refused:
        await api.page(kinds.LEASES, limit=2, continue_=first.continue_)
    status = refused.value.status()
    assert (status["code"], status["reason"]) == (410, "Expired")
    rest = await api.page(kinds.LEASES, limit=9, continue_=status["metadata"]["continue"])
    assert [e.object["metadata"]["name"] for e in rest.items] == ["l2", "l3"]


@pytest.mark.parametrize("token", ["nonsense", "eyJsYXN0IjogIi9ub3RoZXIifQ=="])
async def test_a_token_of_another_list_is_refused(api: Api, token: str) -> None:
    with pytest.raises(BadRequest, match="continue key is not valid"):
        await api.page(kinds.LEASES, continue_=token)


async def test_one_namespace_or_all(api: Api) -> None:
    await api.create(kinds.LEASES, {"metadata": {"name": "a"}})
    await api.create(kinds.LEASES, {"metadata": {"name": "b"}}, namespace="kube-system")
    assert len((await api.page(kinds.LEASES)).items) == 1
    assert len((await api.page(kinds.LEASES, namespace="")).items) == 2


async def test_field_selectors_find_by_node_phase_and_name(api: Api) -> None:
    await bound(api, "a", "n1")
    await bound(api, "b", "n2")
    await api.create(kinds.PODS, pod("b-2"))
    assert await api.names(kinds.PODS, fields="spec.nodeName=n1") == ["a"]
    assert await api.names(kinds.PODS, fields="spec.nodeName!=n1") == ["b", "b-2"]
    assert await api.names(kinds.PODS, fields="metadata.name=b") == ["b"]
    assert await api.names(kinds.PODS, fields="spec.nodeName=,status.phase=Pending") == ["b-2"]


async def test_a_field_that_cannot_be_selected_by_is_named(api: Api) -> None:
    with pytest.raises(BadRequest, match=r"field label not supported: spec\.hostname"):
        await api.page(kinds.PODS, fields="spec.hostname=x")


async def test_revisions_bound_what_a_list_may_be(api: Api) -> None:
    await some(api, 1)
    now = api.store.revision
    assert (await api.page(kinds.LEASES, revision=str(now), match="Exact")).revision == now
    with pytest.raises(Timeout, match=f"Too large resource version: {now + 5}, current: {now}"):
        await api.page(kinds.LEASES, revision=str(now + 5), match="NotOlderThan")
    with pytest.raises(Expired):
        await api.page(kinds.LEASES, revision=str(now - 1), match="Exact")
    with pytest.raises(BadRequest, match="forbidden unless resourceVersion is provided"):
        await api.page(kinds.LEASES, match="Exact")
    with pytest.raises(BadRequest, match="invalid resource version"):
        await api.page(kinds.LEASES, revision="soon")


async def told(events: AsyncGenerator[Event, None], count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(10):
        for _ in range(count):
            event = await anext(events)
            found.append((event.type, event.entry.object["metadata"].get("name", "")))
    return found


async def test_a_watch_tells_what_happens_after_its_revision(api: Api) -> None:
    since = str(api.store.revision)
    async with aclosing(api.watch(kinds.CONFIGMAPS, since=since)) as events:
        await api.create(kinds.CONFIGMAPS, config_map("a"))
        await api.patch(kinds.CONFIGMAPS, "a", {"data": {"k": "v"}})
        await api.create(kinds.SECRETS, {"metadata": {"name": "elsewhere"}})
        await api.delete(kinds.CONFIGMAPS, "a")
        assert await told(events, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_a_deleted_object_is_shown_as_of_its_deletion(api: Api) -> None:
    made = await api.create(kinds.CONFIGMAPS, config_map("a", k="v"))
    since = made["metadata"]["resourceVersion"]
    async with aclosing(api.watch(kinds.CONFIGMAPS, since=since)) as events:
        await api.delete(kinds.CONFIGMAPS, "a")
        gone = (await anext(events)).entry
    assert gone.object["data"] == {"k": "v"}
    assert int(gone.object["metadata"]["resourceVersion"]) == gone.revision == api.store.revision


async def test_to_a_selector_objects_come_and_go_as_they_match(api: Api) -> None:
    since = str(api.store.revision)
    watch = api.watch(kinds.PODS, since=since, fields="spec.nodeName=n1")
    async with aclosing(watch) as events:
        await bound(api, "a", "n1")
        await bound(api, "b", "n2")
        await api.patch(kinds.PODS, "a", LABELLED)
        await api.delete(kinds.PODS, "a", grace_seconds=0)
        assert await told(events, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_ceasing_to_match_is_a_deletion_with_the_new_revision(api: Api) -> None:
    await api.create(kinds.PODS, pod("a"))
    made = await api.patch(kinds.PODS, "a", LABELLED)
    since = made["metadata"]["resourceVersion"]
    async with aclosing(api.watch(kinds.PODS, since=since, labels="app=web")) as events:
        after = await api.patch(kinds.PODS, "a", {"metadata": {"labels": {"app": None}}})
        event = await anext(events)
    assert event.type == "DELETED"
    assert event.entry.object["metadata"]["labels"] == {"app": "web"}
    assert (
        event.entry.object["metadata"]["resourceVersion"] == (after["metadata"]["resourceVersion"])
    )


@pytest.mark.parametrize("since", ["", "0"])
async def test_a_watch_from_nowhere_begins_with_what_is_there(api: Api, since: str) -> None:
    await some(api, 2)
    async with aclosing(api.watch(kinds.LEASES, since=since)) as events:
        assert await told(events, 2) == [("ADDED", "l0"), ("ADDED", "l1")]
        await api.delete(kinds.LEASES, "l0")
        assert await told(events, 1) == [("DELETED", "l0")]


async def test_initial_events_end_with_a_bookmark_that_says_so(api: Api) -> None:
    await some(api, 1)
    watch = api.watch(kinds.LEASES, since="", initial=True, bookmarks=True)
    async with aclosing(watch) as events:
        assert await told(events, 1) == [("ADDED", "l0")]
        end = (await anext(events)).entry.object
    assert end["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert end["metadata"]["resourceVersion"] == str(api.store.revision)


async def test_silence_is_broken_by_bookmarks_that_can_be_gone_on_from(api: Api) -> None:
    watch = api.watch(kinds.LEASES, since=str(api.store.revision), bookmarks=True)
    async with aclosing(watch) as events:
        await api.create(kinds.CONFIGMAPS, config_map("elsewhere"))
        started = asyncio.get_running_loop().time()
        event = await anext(events)
        assert asyncio.get_running_loop().time() - started == SILENCE
        assert event.type == "BOOKMARK"
        assert event.entry.revision == api.store.revision
        await some(api, 1)
        assert await told(events, 1) == [("ADDED", "l0")]


async def test_a_watch_without_bookmarks_is_silent(api: Api) -> None:
    async with aclosing(api.watch(kinds.LEASES, since=str(api.store.revision))) as events:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10 * SILENCE):
                await anext(events)


async def test_a_watch_from_forgotten_history_expires(api: Api) -> None:
    await some(api, 2)
    await api.store.compact(api.store.revision)
    async with aclosing(api.watch(kinds.LEASES, since="1")) as events:
        with pytest.raises(Expired):
            await anext(events)


async def test_a_watch_of_the_future_is_refused(api: Api) -> None:
    future = str(api.store.revision + 100)
    async with aclosing(api.watch(kinds.LEASES, since=future)) as events:
        with pytest.raises(Timeout, match="Too large resource version"):
            await anext(events)


async def test_watchers_share_one_entry(api: Api) -> None:
    since = str(api.store.revision)
    one = api.watch(kinds.LEASES, since=since)
    other = api.watch(kinds.LEASES, since=since, labels="!absent")
    async with aclosing(one), aclosing(other):
        await some(api, 1)
        first, second = (await anext(one)).entry, (await anext(other)).entry
    place = Place(kinds.LEASES, "default", "l0")
    assert first is second is await api.registry.get(place)


async def test_a_watch_of_another_version_shows_that_version(api: Api) -> None:
    events_v1 = BY_GVK["events.k8s.io/v1", "Event"]
    async with aclosing(api.watch(events_v1, since=str(api.store.revision))) as events:
        event = {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "web"},
            "message": "hello",
        }
        await api.create(kinds.EVENTS, event)
        assert (await anext(events)).entry.object["note"] == "hello"
