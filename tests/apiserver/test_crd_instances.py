"""Custom objects in the registry: decoded, pruned, defaulted, validated, written and read."""

from copy import deepcopy
from typing import Any

import pytest

from sampan.api.errors import BadRequest, Invalid, NotFound, UnsupportedMediaType
from sampan.api.kinds import DEFINITIONS, Kind
from sampan.client.interface import PatchType
from tests.apiserver.crds import CRONTABS, GROUP, STATUS, crd, crontab, define, schema, version
from tests.apiserver.support import Api

WITH_PARTS = crd(
    versions=[
        version(
            subresources={
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.labelSelector",
                },
            },
            selectableFields=[{"jsonPath": ".spec.size"}],
        )
    ]
)

NO_MATCH = (
    """Invalid value: "x": spec.cronSpec in body should match """
    r"""'^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'"""
)


async def refused(api: Api, **spec: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        await api.create(CRONTABS, crontab(**spec))
    return caught.value


async def test_a_definition_is_established_and_served_when_its_creation_is_answered(
    api: Api,
) -> None:
    made = await define(api)
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["status"]["acceptedNames"]["listKind"] == "CronTabList"
    assert (await api.create(CRONTABS, crontab()))["kind"] == "CronTab"


async def test_an_object_gets_its_defaults_also_in_items_of_lists(api: Api) -> None:
    await define(api)
    made = await api.create(CRONTABS, crontab(jobs=[{"name": "x"}]))
    assert made["spec"]["image"] == "busybox:1"
    assert made["spec"]["jobs"] == [{"name": "x", "weight": 1}]
    assert made["metadata"]["generation"] == 1
    assert await api.get(CRONTABS, "a") == made


async def test_unknown_fields_are_pruned_and_told(api: Api) -> None:
    await define(api)
    warnings: list[str] = []
    made = await api.create(
        CRONTABS, crontab(odd=1, free={"any": {"thing": 1}}), warnings=warnings, validation="Warn"
    )
    assert "odd" not in made["spec"]
    assert made["spec"]["free"] == {"any": {"thing": 1}}
    assert warnings == ['unknown field "spec.odd"']
    with pytest.raises(BadRequest, match=r'unknown field "spec\.odd"'):
        await api.create(CRONTABS, crontab("b", odd=1), validation="Strict")


async def test_null_stays_where_it_is_allowed_and_means_nothing_elsewhere(api: Api) -> None:
    await define(api)
    made = await api.create(CRONTABS, crontab(note=None, image=None, size=None))
    assert made["spec"]["note"] is None
    assert made["spec"]["image"] == "busybox:1"
    assert "size" not in made["spec"]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"cronSpec": 5}, "spec.cronSpec",
         'Invalid value: "integer": spec.cronSpec in body must be of type string: "integer"'),
        ({"cronSpec": "x"}, "spec.cronSpec", NO_MATCH),
        ({"replicas": 0}, "spec.replicas",
         "Invalid value: 0: spec.replicas in body should be greater than or equal to 1"),
        ({"replicas": 11}, "spec.replicas",
         "Invalid value: 11: spec.replicas in body should be less than or equal to 10"),
        ({"size": "huge"}, "spec.size",
         'Unsupported value: "huge": supported values: "small", "large"'),
        ({"port": 1.5}, "spec.port",
         'Invalid value: "number": spec.port in body must be of type integer or string: "number"'),
        ({"tags": ["a", "b", "a"]}, "spec.tags[2]", 'Duplicate value: "a"'),
        ({"jobs": [{"name": "x"}, {"name": "x"}]}, "spec.jobs[1]",
         'Duplicate value: {"name":"x"}'),
        ({"jobs": [{"weight": 2}]}, "spec.jobs[0].name", "Required value"),
    ],
)  # fmt: skip
async def test_what_breaks_the_schema_is_told_in_kubernetes_words(
    api: Api, spec: dict[str, object], field: str, message: str
) -> None:
    await define(api)
    error = await refused(api, **spec)
    assert [(c.field, c.message) for c in error.causes] == [(field, message)]


async def test_a_missing_field_is_required(api: Api) -> None:
    await define(api)
    with pytest.raises(Invalid, match=r'CronTab "a" is invalid: spec\.cronSpec: Required value'):
        await api.create(CRONTABS, {"metadata": {"name": "a"}, "spec": {}})


async def test_metadata_of_a_wrong_type_is_a_bad_request(api: Api) -> None:
    await define(api)
    with pytest.raises(BadRequest, match=r"metadata\.labels"):
        await api.create(CRONTABS, {**crontab(), "metadata": {"name": "a", "labels": {"x": 5}}})


async def test_status_and_spec_are_written_apart(api: Api) -> None:
    await define(api, WITH_PARTS)
    made = await api.create(CRONTABS, {**crontab(), "status": {"phase": "lies"}})
    assert "status" not in made
    told = await api.patch(CRONTABS, "a", {"status": {"phase": "ok"}, "spec": None}, "status")
    assert told["status"] == {"phase": "ok"}
    assert told["spec"] == made["spec"]
    assert told["metadata"]["generation"] == 1
    kept = await api.patch(CRONTABS, "a", {"status": {"phase": "no"}, "spec": {"replicas": 2}})
    assert kept["status"] == {"phase": "ok"}
    assert kept["metadata"]["generation"] == 2
    with pytest.raises(Invalid, match=r"status\.replicas"):
        await api.patch(CRONTABS, "a", {"status": {"replicas": "many"}}, "status")


async def test_without_a_status_subresource_the_status_counts_like_all_else(api: Api) -> None:
    await define(api)
    await api.create(CRONTABS, {**crontab(), "status": {"phase": "new"}})
    changed = await api.patch(CRONTABS, "a", {"status": {"phase": "old"}})
    assert changed["status"] == {"phase": "old"}
    assert changed["metadata"]["generation"] == 2
    with pytest.raises(NotFound):
        await api.get(CRONTABS, "a", "status")


async def test_scale_reads_and_writes_where_the_definition_says(api: Api) -> None:
    await define(api, WITH_PARTS)
    await api.create(CRONTABS, crontab(replicas=2))
    await api.patch(CRONTABS, "a", {"status": {"replicas": 1, "labelSelector": "a=b"}}, "status")
    scale = await api.get(CRONTABS, "a", "scale")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 1, "selector": "a=b"}
    await api.patch(CRONTABS, "a", {"spec": {"replicas": 5}}, "scale")
    assert (await api.get(CRONTABS, "a"))["spec"]["replicas"] == 5
    with pytest.raises(Invalid, match="less than or equal to 10"):
        await api.patch(CRONTABS, "a", {"spec": {"replicas": 11}}, "scale")


async def test_selectable_fields_select_in_lists_and_others_are_refused(api: Api) -> None:
    await define(api, WITH_PARTS)
    await api.create(CRONTABS, crontab("a", size="small"))
    await api.create(CRONTABS, crontab("b", size="large"))
    assert await api.names(CRONTABS, fields="spec.size=large") == ["b"]
    with pytest.raises(BadRequest, match=r"field label not supported: spec\.image"):
        await api.names(CRONTABS, fields="spec.image=x")


async def test_a_strategic_merge_patch_is_an_unsupported_media_type(api: Api) -> None:
    await define(api)
    await api.create(CRONTABS, crontab())
    with pytest.raises(UnsupportedMediaType, match="merge-patch"):
        await api.patch(CRONTABS, "a", {"spec": {}}, how=PatchType.STRATEGIC)


async def test_appliers_share_a_map_by_its_keys_and_own_no_defaults(api: Api) -> None:
    await define(api)
    one = crontab(jobs=[{"name": "x", "weight": 5}])
    await api.apply(CRONTABS, one, manager="one")
    other = {"metadata": {"name": "a"}, "spec": {"jobs": [{"name": "y", "weight": 7}]}}
    written = await api.apply(CRONTABS, other, manager="other")
    assert [job["name"] for job in written.entry.object["spec"]["jobs"]] == ["x", "y"]
    owners = {
        e["manager"]: e["fieldsV1"] for e in written.entry.object["metadata"]["managedFields"]
    }
    assert "f:image" not in owners["one"]["f:spec"]
    assert 'k:{"name":"y"}' in owners["other"]["f:spec"]["f:jobs"]
    again = await api.apply(CRONTABS, crontab(), manager="one")
    assert again.entry.object["spec"]["jobs"] == [{"name": "y", "weight": 7}]


async def test_what_was_invalid_before_may_stay_as_it_is(api: Api) -> None:
    await define(api)
    await api.create(CRONTABS, crontab(replicas=8, image="old"))
    definition = deepcopy(await api.get(DEFINITIONS, "crontabs.stable.example.com"))
    spec = schema()["openAPIV3Schema"]["properties"]["spec"]
    stricter = {**spec, "properties": {**spec["properties"],
                                       "replicas": {"type": "integer", "maximum": 3}}}  # fmt: skip
    definition["spec"]["versions"][0]["schema"] = schema(stricter)
    await api.update(DEFINITIONS, definition)
    changed = await api.patch(CRONTABS, "a", {"spec": {"image": "new"}})
    assert changed["spec"]["replicas"] == 8
    with pytest.raises(Invalid, match="less than or equal to 3"):
        await api.patch(CRONTABS, "a", {"spec": {"replicas": 9}})


async def test_old_objects_are_read_with_new_defaults_and_without_forgotten_fields(
    api: Api,
) -> None:
    await define(api)
    await api.create(CRONTABS, crontab(size="small"))
    definition = deepcopy(await api.get(DEFINITIONS, "crontabs.stable.example.com"))
    fields = {"cronSpec": {"type": "string"}, "fresh": {"type": "integer", "default": 4}}
    spec = {"type": "object", "properties": fields}
    definition["spec"]["versions"][0]["schema"] = schema(spec)
    await api.update(DEFINITIONS, definition)
    found = await api.get(CRONTABS, "a")
    assert found["spec"] == {"cronSpec": "* * * * */5", "fresh": 4}
    page = await api.page(CRONTABS)
    assert page.items[0].object == found


async def test_a_cluster_scoped_kind_has_no_namespace(api: Api) -> None:
    await define(api, crd(scope="Cluster"))
    made = await api.create(CRONTABS, crontab(), namespace="")
    assert "namespace" not in made["metadata"]


async def test_an_embedded_resource_keeps_its_type_and_needs_one(api: Api) -> None:
    template = {"type": "object", "x-kubernetes-embedded-resource": True,
                "x-kubernetes-preserve-unknown-fields": True}  # fmt: skip
    spec = {"type": "object", "properties": {"template": template}}
    properties = {"spec": spec, "status": STATUS}
    whole = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    await define(api, crd(versions=[version(schema=whole)]))
    inner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 1}}
    made = await api.create(CRONTABS, {"metadata": {"name": "a"}, "spec": {"template": inner}})
    assert made["spec"]["template"] == inner
    bad = {"metadata": {"name": "b"}, "spec": {"template": {"kind": "Pod"}}}
    with pytest.raises(Invalid, match=r"spec\.template\.apiVersion: Required value"):
        await api.create(CRONTABS, bad)


@pytest.mark.parametrize("name", ["Pod", "Namespace", "Deployment", "Binding", "Event", "Secret"])
async def test_a_custom_kind_may_be_called_as_a_built_in_one_and_is_none(
    api: Api, name: str
) -> None:
    plural = f"{name.lower()}s"
    names = {"plural": plural, "kind": name}
    await define(api, crd(plural, name, names=names, scope="Cluster"))
    kind = Kind(GROUP, "v1", name, plural, namespaced=False)
    made = await api.create(kind, crontab("default"))
    assert made["spec"]["image"] == "busybox:1"
    annotated = await api.patch(kind, "default", {"metadata": {"annotations": {"a": "b"}}})
    assert annotated["metadata"]["generation"] == 1
    await api.patch(kind, "default", {"spec": {"image": "other"}})
    assert (await api.get(kind, "default"))["spec"]["image"] == "other"
    await api.delete(kind, "default")
    assert await api.names(kind) == []


async def test_a_status_may_be_applied_by_itself(api: Api) -> None:
    await define(api, WITH_PARTS)
    await api.create(CRONTABS, crontab())
    config = {"metadata": {"name": "a"}, "status": {"phase": "ok"}}
    applied = (await api.apply(CRONTABS, config, "status", manager="op")).entry.object
    assert applied["status"] == {"phase": "ok"}
    [entry] = [e for e in applied["metadata"]["managedFields"] if e["manager"] == "op"]
    assert entry["fieldsV1"] == {"f:status": {"f:phase": {}}}
