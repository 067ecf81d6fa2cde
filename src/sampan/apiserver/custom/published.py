"""What custom kinds add to the OpenAPI documents, in the form of the published schemas."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sampan.apiserver.custom.kind import OBJECT_META, CustomKind
from sampan.apiserver.custom.structural import EMBEDDED, Schema

_DEFS: Final = "#/$defs/"
_LIST_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_GVK: Final = "x-kubernetes-group-version-kind"
_API_VERSION: Final = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should "
    "convert recognized schemas to the latest internal value, and may reject unrecognized values. "
    "More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
)
_KIND: Final = (
    "Kind is a string value representing the REST resource this object represents. Servers may "
    "infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. "
    "More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)
_METADATA: Final = (
    "Standard object's metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_WHOLE: Final[Mapping[str, Any]] = {
    "apiVersion": {"type": "string", "description": _API_VERSION},
    "kind": {"type": "string", "description": _KIND},
    "metadata": {"$ref": _DEFS + OBJECT_META, "description": _METADATA},
}


def definitions(kinds: Iterable[CustomKind]) -> dict[str, Any]:
    """The schemas of *kinds* and of their lists, by name."""
    found: dict[str, Any] = {}
    for kind in kinds:
        name = _name(kind)
        gvk = {"group": kind.group, "version": kind.version}
        found[name] = {**_published(kind.version_.published, root=True),
                       _GVK: [{**gvk, "kind": kind.kind}]}  # fmt: skip
        found[f"{name}List"] = {
            "description": f"{kind.list_kind} is a list of {kind.kind}",
            "type": "object",
            "required": ["items"],
            "properties": {
                **_WHOLE,
                "items": {
                    "type": "array",
                    "items": {"$ref": _DEFS + name},
                    "description": f"List of {kind.plural}.",
                },
                "metadata": {"$ref": _DEFS + _LIST_META, "description": _METADATA},
            },
            _GVK: [{**gvk, "kind": kind.list_kind}],
        }
    return found


def _name(kind: CustomKind) -> str:
    """`com.example.stable.v1.CronTab` for `CronTab` of `stable.example.com/v1`."""
    return ".".join((*reversed(kind.group.split(".")), kind.version, kind.kind))


def _published(schema: Schema, *, root: bool = False) -> dict[str, Any]:
    found = dict(schema)
    if "properties" in schema:
        found["properties"] = {
            name: _published(inner) for name, inner in schema["properties"].items()
        }
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            found[name] = _published(schema[name])
    if root or schema.get(EMBEDDED):
        found["type"] = "object"
        found["properties"] = {**(found.get("properties") or {}), **_WHOLE}
    return found
