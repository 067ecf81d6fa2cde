"""The in-process client is a client like any other."""

import logging
from contextlib import aclosing

import pytest

from sampan.api import kinds
from sampan.api.errors import NotFound
from sampan.apiserver.local import LocalClient
from sampan.client.interface import Client
from tests.apiserver.support import Api, pod


@pytest.fixture
def client(api: Api) -> Client:
    return LocalClient(api.registry)


def placed(name: str = "web") -> dict[str, object]:
    made = pod(name)
    made["metadata"]["namespace"] = "default"
    return made


async def test_the_life_of_a_pod(client: Client) -> None:
    made = await client.create(kinds.PODS, placed())
    listing = await client.list(kinds.PODS, "default")
    assert [obj["metadata"]["name"] for obj in listing.items] == ["web"]
    binding = {"metadata": {"name": "web", "namespace": "default"}, "target": {"name": "n1"}}
    await client.create(kinds.PODS, binding, subresource="binding")
    ran = {"status": {"phase": "Running"}}
    await client.patch(kinds.PODS, "web", ran, "default", subresource="status")
    assert (await client.get(kinds.PODS, "web", "default"))["status"]["phase"] == "Running"
    await client.delete(kinds.PODS, "web", "default", uid=made["metadata"]["uid"], grace_seconds=0)
    with pytest.raises(NotFound):
        await client.get(kinds.PODS, "web", "default")
    async with aclosing(client.watch(kinds.PODS, "default", since=listing.revision)) as events:
        types = [(await anext(events)).type for _ in range(3)]
    assert types == ["MODIFIED", "MODIFIED", "DELETED"]


async def test_it_names_itself_only_where_owners_matter(client: Client) -> None:
    made = await client.create(kinds.PODS, placed())
    assert "managedFields" not in made["metadata"]


async def test_a_mistake_of_the_control_plane_is_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await client.create(kinds.PODS, placed())
    with caplog.at_level(logging.WARNING):
        await client.patch(
            kinds.PODS, "web", {"status": {"fase": "x"}}, "default", subresource="status"
        )
    assert 'pods default/web: unknown field "status.fase"' in caplog.text


async def test_an_update_carries_its_own_place(client: Client) -> None:
    made = await client.create(kinds.NAMESPACES, {"metadata": {"name": "team"}})
    labelled = {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}}}
    updated = await client.update(kinds.NAMESPACES, labelled)
    assert updated["metadata"]["labels"]["a"] == "b"
