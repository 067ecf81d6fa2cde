"""Server-side apply: whose field is whose."""

from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import BadRequest, Conflict
from sampan.api.objects import Object
from sampan.client.interface import PatchType
from tests.apiserver.support import Api, changed, config_map, deployment

CONTAINER = ("spec", "template", "spec", "containers", 0)


def owners(obj: Object) -> dict[str, Any]:
    return {
        entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields") or ()
    }


async def test_applying_creates_and_owns_what_it_names(api: Api) -> None:
    written = await api.apply(kinds.CONFIGMAPS, config_map(a="1"))
    assert written.created
    assert owners(written.entry.object) == {"kubectl": {"f:data": {"f:a": {}}}}


async def test_applying_the_same_again_writes_nothing(api: Api) -> None:
    first = await api.apply(kinds.CONFIGMAPS, config_map(a="1"))
    again = await api.apply(kinds.CONFIGMAPS, config_map(a="1"))
    assert not again.created
    assert again.entry.revision == first.entry.revision


async def test_a_conflict_names_the_manager_and_the_field(api: Api) -> None:
    await api.apply(kinds.CONFIGMAPS, config_map(a="1"))
    with pytest.raises(Conflict) as refused:
        await api.apply(kinds.CONFIGMAPS, config_map(a="2"), manager="other")
    assert refused.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl" using v1: .data.a'
    )
    assert refused.value.causes[0].field == ".data.a"
    assert (await api.get(kinds.CONFIGMAPS, "c"))["data"] == {"a": "1"}


async def test_several_conflicts_are_told_manager_by_manager(api: Api) -> None:
    await api.apply(kinds.CONFIGMAPS, config_map(a="1", b="1"))
    with pytest.raises(Conflict, match="Apply failed with 2 conflicts") as refused:
        await api.apply(kinds.CONFIGMAPS, config_map(a="2", b="2"), manager="other")
    assert refused.value.message.splitlines()[1:] == ["- .data.a", "- .data.b"]


async def test_force_takes_the_field_over(api: Api) -> None:
    await api.apply(kinds.CONFIGMAPS, config_map(a="1", b="1"))
    written = await api.apply(kinds.CONFIGMAPS, config_map(a="2"), manager="other", force=True)
    assert written.entry.object["data"] == {"a": "2", "b": "1"}
    assert owners(written.entry.object) == {
        "kubectl": {"f:data": {"f:b": {}}},
        "other": {"f:data": {"f:a": {}}},
    }


async def test_the_same_value_is_shared_without_conflict(api: Api) -> None:
    await api.apply(kinds.CONFIGMAPS, config_map(a="1"))
    await api.apply(kinds.CONFIGMAPS, config_map(a="1"), manager="other")
    written = await api.apply(kinds.CONFIGMAPS, config_map(b="1"))
    assert written.entry.object["data"] == {"a": "1", "b": "1"}
    assert owners(written.entry.object)["other"] == {"f:data": {"f:a": {}}}


async def test_a_field_that_its_only_owner_drops_is_removed(api: Api) -> None:
    await api.apply(kinds.CONFIGMAPS, config_map(a="1", b="1"))
    written = await api.apply(kinds.CONFIGMAPS, config_map(a="1"))
    assert written.entry.object["data"] == {"a": "1"}


async def test_a_plain_update_takes_what_it_changes(api: Api) -> None:
    await api.apply(kinds.CONFIGMAPS, config_map(a="1", b="1"))
    edited = await api.patch(kinds.CONFIGMAPS, "c", {"data": {"a": "9"}}, manager="editor")
    assert owners(edited) == {
        "kubectl": {"f:data": {"f:b": {}}},
        "editor": {"f:data": {"f:a": {}}},
    }
    with pytest.raises(Conflict, match='conflict with "editor" using v1'):
        await api.apply(kinds.CONFIGMAPS, config_map(a="1", b="1"))


async def test_the_creator_of_an_object_owns_what_nobody_else_touched(api: Api) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment(replicas=2), manager="kubectl-create")
    await api.patch(
        kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, "scale", manager="autoscaler"
    )
    with pytest.raises(Conflict) as refused:
        await api.apply(
            kinds.DEPLOYMENTS, changed(deployment(replicas=4), *CONTAINER, "image", to="b:2")
        )
    told = [(cause.message.split('"')[1], cause.field) for cause in refused.value.causes]
    assert sorted(told) == [
        ("autoscaler", ".spec.replicas"),
        ("kubectl-create", '.spec.template.spec.containers[name="main"].image'),
    ]


async def test_items_of_a_keyed_list_have_owners_of_their_own(api: Api) -> None:
    base = deployment()
    await api.apply(kinds.DEPLOYMENTS, base)
    other: Object = {
        "metadata": {"name": "web"},
        "spec": {
            "template": {"spec": {"containers": [{"name": "side", "image": "side:1"}]}},
        },
    }
    written = await api.apply(kinds.DEPLOYMENTS, other, manager="injector")
    spec = written.entry.object["spec"]["template"]["spec"]
    assert [c["name"] for c in spec["containers"]] == ["main", "side"]
    again = await api.apply(kinds.DEPLOYMENTS, base)
    assert again.entry.revision == written.entry.revision


async def test_an_item_goes_when_its_only_applier_drops_it(api: Api) -> None:
    variables = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    await api.apply(kinds.DEPLOYMENTS, changed(deployment(), *CONTAINER, "env", to=variables))
    fewer = changed(deployment(), *CONTAINER, "env", to=variables[:1])
    written = await api.apply(kinds.DEPLOYMENTS, fewer)
    container = written.entry.object["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == variables[:1]


async def test_an_atomic_list_has_one_owner(api: Api) -> None:
    await api.apply(kinds.DEPLOYMENTS, changed(deployment(), *CONTAINER, "command", to=["a"]))
    with pytest.raises(Conflict, match=r'containers\[name="main"\].command'):
        await api.apply(
            kinds.DEPLOYMENTS,
            changed(deployment(), *CONTAINER, "command", to=["b"]),
            manager="other",
        )


async def test_status_and_spec_are_owned_apart(api: Api) -> None:
    await api.apply(kinds.DEPLOYMENTS, deployment())
    status = {"metadata": {"name": "web"}, "status": {"replicas": 1}}
    written = await api.apply(kinds.DEPLOYMENTS, status, "status", manager="operator")
    entries = written.entry.object["metadata"]["managedFields"]
    assert [(e["manager"], e.get("subresource")) for e in entries] == [
        ("kubectl", None),
        ("operator", "status"),
    ]
    assert written.entry.object["status"] == {"replicas": 1}
    again = await api.apply(kinds.DEPLOYMENTS, deployment())
    assert again.entry.revision == written.entry.revision


async def test_apply_needs_a_manager_and_no_managed_fields(api: Api) -> None:
    with pytest.raises(BadRequest, match="fieldManager is required"):
        await api.apply(kinds.CONFIGMAPS, config_map(), manager="")
    config = config_map()
    config["metadata"]["managedFields"] = [{"manager": "x"}]
    with pytest.raises(BadRequest, match="managedFields must be nil"):
        await api.apply(kinds.CONFIGMAPS, config)


async def test_a_configuration_of_another_version_of_the_object_conflicts(api: Api) -> None:
    made = (await api.apply(kinds.CONFIGMAPS, config_map(a="1"))).entry.object
    await api.patch(kinds.CONFIGMAPS, "c", {"data": {"b": "1"}})
    stale = changed(
        config_map(a="2"), "metadata", "resourceVersion", to=made["metadata"]["resourceVersion"]
    )
    with pytest.raises(Conflict, match="the object has been modified"):
        await api.apply(kinds.CONFIGMAPS, stale)


async def test_a_client_may_rewrite_who_owns_what(api: Api) -> None:
    """As kubectl does when it goes over from client-side to server-side apply."""
    await api.create(kinds.CONFIGMAPS, config_map(a="1"), manager="kubectl-client-side-apply")
    written = await api.apply(kinds.CONFIGMAPS, config_map(a="1"))
    entries = written.entry.object["metadata"]["managedFields"]
    assert all(entry["fieldsV1"] for entry in entries)
    kept = [entry for entry in entries if entry["operation"] == "Apply"]
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": kept}]
    patched = await api.patch(kinds.CONFIGMAPS, "c", patch, how=PatchType.JSON)
    assert owners(patched) == {"kubectl": {"f:data": {"f:a": {}}}}
    emptied = await api.apply(kinds.CONFIGMAPS, config_map(b="1"))
    assert emptied.entry.object["data"] == {"b": "1"}


@pytest.mark.parametrize("nonsense", [{"f:data": 3}, {"data": {}}, {"k:{": {}}, {"k:3": {}}])
async def test_owners_that_make_no_sense_are_ignored(api: Api, nonsense: Any) -> None:
    written = await api.apply(kinds.CONFIGMAPS, config_map(a="1"))
    before = written.entry.object["metadata"]["managedFields"]
    fields = [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsV1": nonsense}]
    patched = await api.patch(kinds.CONFIGMAPS, "c", {"metadata": {"managedFields": fields}})
    assert patched["metadata"]["managedFields"] == before
    claimed = changed(config_map("d"), "metadata", "managedFields", to=fields)
    made = await api.create(kinds.CONFIGMAPS, claimed)
    assert [entry["manager"] for entry in made["metadata"]["managedFields"]] == ["kubectl"]


async def test_renewing_a_lease_is_not_tracked(api: Api) -> None:
    lease = {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}
    await api.create(kinds.LEASES, lease)
    renewed = await api.patch(
        kinds.LEASES, "n1", {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    )
    assert "managedFields" not in renewed["metadata"]


async def test_another_version_of_a_kind_is_applied_as_the_version_that_is_kept(api: Api) -> None:
    older = kinds.BY_RESOURCE["autoscaling", "v1", "horizontalpodautoscalers"]
    newer = kinds.BY_RESOURCE["autoscaling", "v2", "horizontalpodautoscalers"]
    config: dict[str, Any] = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "targetCPUUtilizationPercentage": 70,
        },
    }
    for share in (70, 50):
        config["spec"]["targetCPUUtilizationPercentage"] = share
        written = await api.apply(older, config, manager="me")
        assert written.entry.object["apiVersion"] == "autoscaling/v1"
        assert written.entry.object["spec"]["targetCPUUtilizationPercentage"] == share
    kept = await api.get(newer, "web")
    assert kept["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    assert [entry["manager"] for entry in kept["metadata"]["managedFields"]] == ["me"]
