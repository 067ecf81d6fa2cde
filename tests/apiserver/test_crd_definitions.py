"""What a definition of a custom resource may say, and what it is called."""

from copy import deepcopy
from typing import Any

import pytest

from sampan.api.errors import Invalid, MethodNotAllowed, NotFound
from sampan.api.kinds import DEFINITIONS, Kind
from sampan.api.objects import Object
from sampan.apiserver.custom import definition
from tests.apiserver.crds import CRONTABS, GROUP, crd, crontab, define, schema, version
from tests.apiserver.support import Api

AT = "spec.validation.openAPIV3Schema"
SPEC_AT = f"{AT}.properties[spec]"
INTEGER = {"type": "integer"}


def causes(made: Object) -> list[tuple[str, str]]:
    made = deepcopy(made)
    definition.default(made)
    return [(cause.field, cause.message) for cause in definition.validate(made)]


def of_spec(**spec: Any) -> Object:
    return crd(versions=[version(schema=schema({"type": "object", **spec}))])


def of_field(**field: Any) -> Object:
    return of_spec(properties={"x": field})


def test_the_sample_is_valid() -> None:
    assert causes(crd()) == []


X = f"{SPEC_AT}.properties[x]"


@pytest.mark.parametrize(
    ("made", "field", "words"),
    [
        (of_field(), f"{X}.type", "must not be empty for specified object fields"),
        (of_field(type="array", items={}), f"{X}.items.type",
         "must not be empty for specified array items"),
        (of_field(type="text"), f"{X}.type", 'Unsupported value: "text"'),
        (of_field(type="string", pattern="("), f"{X}.pattern", "must be a valid regular"),
        (of_field(type="array", items=INTEGER, uniqueItems=True), f"{X}.uniqueItems",
         "uniqueItems cannot be set to true"),
        (of_field(type="object", properties={"a": INTEGER}, additionalProperties=INTEGER),
         f"{X}.additionalProperties", "additionalProperties and properties are mutual exclusive"),
        (of_field(type="object", additionalProperties=False), f"{X}.additionalProperties",
         "cannot be set to false"),
        (of_field(type="string", **{"$ref": "#/x"}), f"{X}.$ref", "$ref is not supported"),
        (of_field(type="string", **{"x-kubernetes-preserve-unknown-fields": False}),
         f"{X}.x-kubernetes-preserve-unknown-fields", "must be true or undefined"),
        (of_field(type="string", **{"x-kubernetes-int-or-string": True}), f"{X}.type",
         "must be empty if x-kubernetes-int-or-string is true"),
        (of_field(type="object", **{"x-kubernetes-embedded-resource": True}), f"{X}.properties",
         "must not be empty if x-kubernetes-embedded-resource is true"),
        (of_field(type="string", **{"x-kubernetes-list-type": "set"}), f"{X}.type",
         "must be array if x-kubernetes-list-type is specified"),
        (of_field(type="array", items=INTEGER, **{"x-kubernetes-list-type": "bag"}),
         f"{X}.x-kubernetes-list-type", 'Unsupported value: "bag"'),
        (of_field(type="integer", default="one"), f"{X}.default",
         "must be of type integer"),
        (of_field(type="object", properties={"a": INTEGER}, default={"b": 1}), f"{X}.default",
         "must not contain unknown fields: b"),
        (of_field(type="string", anyOf=[{"type": "string"}]), f"{X}.anyOf[0].type",
         "must be empty to be structural"),
        (of_spec(properties={"a": INTEGER}, oneOf=[{"properties": {"b": {"minimum": 1}}}]),
         f"{SPEC_AT}.properties[b]", "because it is defined in"),
    ],
)  # fmt: skip
def test_a_schema_that_is_not_structural_is_refused(made: Object, field: str, words: str) -> None:
    assert [(at, words in message) for at, message in causes(made)] == [(field, True)]


def test_int_or_string_may_say_so_in_any_of() -> None:
    either = {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
    }
    assert causes(of_field(**either)) == []


def test_keys_of_a_map_are_scalar_and_there() -> None:
    jobs = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name", "other"],
        "items": {"type": "object", "properties": {"name": {"type": "string"}}},
    }
    found = dict(causes(of_field(**jobs)))
    assert "must have a default or be a required" in found[f"{X}.items.properties[name].default"]
    assert "entries must all be names" in found[f"{X}.x-kubernetes-list-map-keys[1]"]


def changed(**spec: Any) -> Object:
    return crd(**spec)


@pytest.mark.parametrize(
    ("made", "field", "words"),
    [
        ({**crd(), "metadata": {"name": "x.y"}}, "metadata.name",
         'must be spec.names.plural+"."+spec.group'),
        (crd(scope="World"), "spec.scope", 'supported values: "Cluster", "Namespaced"'),
        (crd(versions=[version(), version("v2")]), "spec.versions",
         "must have exactly one version marked as storage version"),
        (crd(versions=[version(), version(storage=False)]), "spec.versions",
         "must contain unique version names"),
        (crd(versions=[{"name": "v1", "served": True, "storage": True}]),
         "spec.versions[0].schema.openAPIV3Schema", "schemas are required"),
        (crd(names={"plural": "crontabs", "kind": "Cron Tab"}), "spec.names.kind",
         "may have mixed case"),
        (crd(conversion={"strategy": "Webhook"}), "spec.conversion.webhook.clientConfig",
         "required when strategy is set to Webhook"),
        (crd(versions=[version(additionalPrinterColumns=[
            {"name": "A", "type": "text", "jsonPath": ".a"}])]),
         "spec.additionalPrinterColumns[0].type", "must be one of boolean,date,integer"),
        (crd(versions=[version(additionalPrinterColumns=[
            {"name": "A", "type": "string", "jsonPath": "a b"}])]),
         "spec.additionalPrinterColumns[0].jsonPath", "cannot be read"),
        (crd(versions=[version(subresources={"scale": {
            "specReplicasPath": ".replicas", "statusReplicasPath": ".status.replicas"}})]),
         "spec.subresources.scale.specReplicasPath", "should be a json path under .spec"),
        (crd(versions=[version(selectableFields=[{"jsonPath": ".spec.free"}])]),
         "spec.selectableFields[0].jsonPath", "must point to a field of type string"),
    ],
)  # fmt: skip
def test_a_definition_that_makes_no_sense_is_refused(made: Object, field: str, words: str) -> None:
    found = causes(made)
    assert field in dict(found)
    assert words in dict(found)[field]


def test_what_versions_do_not_share_is_told_of_each() -> None:
    other = version("v2", storage=False, schema=schema({"type": "object", "properties": {"x": {}}}))
    assert [field for field, _ in causes(crd(versions=[version(), other]))] == [
        "spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[x].type"
    ]


def test_groups_of_kubernetes_need_an_approval() -> None:
    made = crd(group="apps.k8s.io")
    made["metadata"]["name"] = "crontabs.apps.k8s.io"
    assert causes(made)[0][0] == "metadata.annotations[api-approved.kubernetes.io]"


async def test_a_bad_definition_is_invalid_with_all_its_causes(api: Api) -> None:
    with pytest.raises(Invalid) as caught:
        await api.create(DEFINITIONS, of_field())
    assert caught.value.causes[0].field == f"{X}.type"
    with pytest.raises(Invalid, match="Required value"):
        await api.create(DEFINITIONS, {"metadata": {"name": "x"}, "spec": {}})


async def test_what_objects_depend_on_cannot_be_changed(api: Api) -> None:
    made = deepcopy(await define(api))
    made["spec"]["scope"] = "Cluster"
    with pytest.raises(Invalid, match=r"spec\.scope: Invalid value: .*field is immutable"):
        await api.update(DEFINITIONS, made)


async def test_a_version_that_objects_are_kept_in_must_stay(api: Api) -> None:
    made = deepcopy(await define(api))
    made["spec"]["versions"] = [version("v2")]
    with pytest.raises(Invalid, match=r"status\.storedVersions\[0\].*missing from spec\.versions"):
        await api.update(DEFINITIONS, made)


async def test_a_name_belongs_to_the_first_and_to_the_second_once_it_is_free(api: Api) -> None:
    await define(api)
    other = await define(api, crd("croptabs", "CropTab"))
    conditions = {c["type"]: c for c in other["status"]["conditions"]}
    assert conditions["NamesAccepted"]["status"] == "False"
    assert conditions["NamesAccepted"]["reason"] == "ShortNamesConflict"
    assert conditions["NamesAccepted"]["message"] == '"ct" is already in use'
    assert conditions["Established"]["status"] == "False"
    croptabs = Kind(GROUP, "v1", "CropTab", "croptabs")
    assert api.registry.catalog.find(GROUP, "v1", "croptabs") is None
    first = deepcopy(await api.get(DEFINITIONS, f"crontabs.{GROUP}"))
    first["spec"]["names"]["shortNames"] = ["cron"]
    await api.update(DEFINITIONS, first)
    assert api.registry.catalog.find(GROUP, "v1", "croptabs") is not None
    assert (await api.create(croptabs, crontab()))["kind"] == "CropTab"


async def test_versions_that_are_not_served_are_not_found(api: Api) -> None:
    hidden = {**version("v2", storage=False), "served": False}
    await define(api, crd(versions=[version(), hidden]))
    assert api.registry.catalog.find(GROUP, "v2", "crontabs") is None
    assert api.registry.catalog.find(GROUP, "v1", "crontabs") is not None


async def test_definitions_are_served_again_after_a_restart(api: Api) -> None:
    from sampan.apiserver.registry import StoreRegistry
    from sampan.apiserver.settings import Settings

    await define(api)
    await api.create(CRONTABS, crontab())
    again = Api(StoreRegistry(api.store, Settings()), api.store, api.clock)
    await again.registry.start()
    assert await again.names(CRONTABS) == ["a"]


async def test_a_definition_on_its_way_out_takes_no_new_objects(api: Api) -> None:
    await define(api)
    await api.create(CRONTABS, crontab())
    marked = await api.delete(DEFINITIONS, f"crontabs.{GROUP}")
    assert marked["metadata"]["finalizers"] == [definition.FINALIZER]
    with pytest.raises(MethodNotAllowed, match="while custom resource definition is terminating"):
        await api.create(CRONTABS, crontab("b"))
    found = await api.get(DEFINITIONS, f"crontabs.{GROUP}")
    assert found["status"]["conditions"][-1]["type"] == "Terminating"
    with pytest.raises(NotFound):
        await api.get(CRONTABS, "missing")
