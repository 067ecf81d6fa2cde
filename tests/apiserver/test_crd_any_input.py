"""Whatever a definition says, and whatever its objects are: taken or refused, and served."""

from contextlib import suppress
from typing import Any

import anyio
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.api.errors import ApiError
from sampan.api.kinds import DEFINITIONS, KINDS
from sampan.api.objects import Object
from sampan.apiserver import schemas
from sampan.apiserver.interface import Place
from sampan.apiserver.openapi import OpenApi
from tests.apiserver.crds import CRONTABS, SPEC, crd, crontab, schema, version
from tests.apiserver.support import Api, call, started
from tests.apiserver.test_any_input import attempts, mangled

NAME = "crontabs.stable.example.com"
RICH: Object = {
    **SPEC,
    "properties": {
        **SPEC["properties"],
        "choice": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string", "format": "ipv4"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        "map": {"type": "object", "additionalProperties": {"type": "number", "multipleOf": 0.5}},
    },
    "x-kubernetes-validations": [
        {"rule": "!has(self.replicas) || self.replicas < 9", "messageExpression": "'no'",
         "fieldPath": ".replicas"},
    ],
}  # fmt: skip
DEFINITION = crd(
    versions=[
        version(
            schema=schema(RICH),
            subresources={
                "status": {},
                "scale": {"specReplicasPath": ".spec.replicas",
                          "statusReplicasPath": ".status.replicas"},
            },
            additionalPrinterColumns=[
                {"name": "A", "type": "date", "jsonPath": '.spec.jobs[?(@.name=="x")].weight'},
            ],
            selectableFields=[{"jsonPath": ".spec.size"}],
        ),
    ],
    conversion={"strategy": "None"},
)  # fmt: skip
OBJECT: Object = {
    **crontab(
        replicas=2, note=None, size="small", port=80, free={"x": [1, None]}, tags=["a"],
        jobs=[{"name": "x", "weight": 3}], choice={"b": "192.0.2.1"}, map={"m": 1.5},
    ),
    "status": {"replicas": 1},
}  # fmt: skip


async def used(api: Api) -> None:
    """Do with the kind, if it is served, what clients do with kinds."""
    kind = api.registry.catalog.find(CRONTABS.group, "v1", "crontabs")
    if kind is None:
        return
    namespace = "default" if kind.namespaced else ""
    with suppress(ApiError):
        await api.registry.create(Place(kind, namespace), OBJECT, call())
    await attempts(api, kind, OBJECT, crontab(replicas=3))
    documents = OpenApi(KINDS, dict, schemas.types, "v").of((*KINDS, kind))
    with suppress(KeyError):
        documents.v2_protobuf()
    orjson.dumps(documents.index().decode())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(mangled(DEFINITION), st.booleans())
def test_a_mangled_definition_is_refused_or_serves(broken: Any, later: bool) -> None:  # noqa: FBT001 - drawn
    async def run() -> None:
        api = await started()
        if later:
            await api.create(DEFINITIONS, DEFINITION)
            with suppress(ApiError):
                await api.registry.update(Place(DEFINITIONS, "", NAME), broken, call())
        else:
            with suppress(ApiError):
                await api.registry.create(Place(DEFINITIONS), broken, call())
        await used(api)

    anyio.run(run)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(mangled(OBJECT))
def test_a_mangled_object_of_a_custom_kind_is_taken_or_refused(broken: Any) -> None:
    async def run() -> None:
        api = await started()
        await api.create(DEFINITIONS, DEFINITION)
        await attempts(api, CRONTABS, OBJECT, broken)

    anyio.run(run)
