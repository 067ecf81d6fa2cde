"""A definition of a custom resource, and short ways to vary it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sampan.api.kinds import DEFINITIONS, Kind
from sampan.api.objects import Object
from tests.apiserver.support import Api

GROUP = "stable.example.com"
CRONTABS = Kind(GROUP, "v1", "CronTab", "crontabs")
SPEC: Object = {
    "type": "object",
    "required": ["cronSpec"],
    "properties": {
        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "image": {"type": "string", "default": "busybox:1"},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
        "note": {"type": "string", "nullable": True},
        "size": {"enum": ["small", "large"], "type": "string"},
        "port": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "jobs": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "weight": {"type": "integer", "default": 1},
                },
            },
        },
    },
}
STATUS: Object = {
    "type": "object",
    "properties": {
        "replicas": {"type": "integer"},
        "labelSelector": {"type": "string"},
        "phase": {"type": "string"},
    },
}


def schema(spec: Object | None = None, **more: Any) -> Object:
    properties = {"spec": SPEC if spec is None else spec, "status": STATUS}
    return {"openAPIV3Schema": {"type": "object", "properties": properties, **more}}


def version(name: str = "v1", *, storage: bool = True, **more: Any) -> Object:
    return {"name": name, "served": True, "storage": storage, "schema": schema(), **more}


def crd(plural: str = "crontabs", kind: str = "CronTab", **spec: Any) -> Object:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "shortNames": ["ct"]},
            "versions": [version()],
            **spec,
        },
    }


def crontab(name: str = "a", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"cronSpec": "* * * * */5", **spec}}


async def define(api: Api, definition: Object | None = None) -> Object:
    made = crd() if definition is None else definition
    await api.create(DEFINITIONS, made)
    return await api.get(DEFINITIONS, made["metadata"]["name"])


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait, in virtual time, until it *holds*."""
    async with asyncio.timeout(60):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.1)
