"""OpenAPI documents, v3 and v2, made from the published schemas and the kinds that are served.

The schemas come as JSON Schema (2020-12, every type nullable); OpenAPI has its own dialect of it.
Documents are made when first asked for, and kept as bytes.
"""

import gzip
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from sampan.api.kinds import Kind
from sampan.apiserver import discovery, openapi_proto
from sampan.apiserver.custom import published
from sampan.apiserver.custom.kind import CustomKind

Object = dict[str, Any]
Definitions = Mapping[str, Any]

_DEFS: Final = "#/$defs/"
_V3: Final = "#/components/schemas/"
_V2: Final = "#/definitions/"
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING: Final = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_PATCH: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_STATUS: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
_DELETE_OPTIONS: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_GVK: Final = "x-kubernetes-group-version-kind"
_PATCH_TYPES: Final = (
    "application/apply-patch+yaml", "application/json-patch+json",
    "application/merge-patch+json", "application/strategic-merge-patch+json",
)  # fmt: skip
_WRITE: Final = ("dryRun", "fieldManager", "fieldValidation")
_PARAMETERS: Final[Mapping[str, Sequence[str]]] = {
    "list": (
        "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit",
        "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
    ),
    "get": (),
    "post": _WRITE,
    "put": _WRITE,
    "patch": (*_WRITE, "force"),
    "delete": ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"),
    "deletecollection": ("dryRun", "fieldSelector", "gracePeriodSeconds", "labelSelector",
                         "propagationPolicy"),
}  # fmt: skip
_TYPES: Final = {
    "allowWatchBookmarks": "boolean", "force": "boolean", "gracePeriodSeconds": "integer",
    "limit": "integer", "orphanDependents": "boolean", "sendInitialEvents": "boolean",
    "timeoutSeconds": "integer", "watch": "boolean",
}  # fmt: skip
_PACKING_LEVEL: Final = 6
_METHODS: Final = {"get": "get", "create": "post", "update": "put", "patch": "patch",
                   "delete": "delete"}  # fmt: skip


_BASE: Final = "v2 protobuf"
"""The definitions of built-in kinds; a protobuf message goes on where another of its type ended."""


class OpenApi:
    """The documents for *kinds*, made when first asked for, kept and given packed (gzip).

    *load* reads the `$defs` of the published schemas, which are large and not kept; *bare* those
    without descriptions, which the validators have in memory anyway.
    """

    def __init__(
        self,
        kinds: Iterable[Kind],
        load: Callable[[], Definitions],
        bare: Callable[[], Definitions],
        version: str,
    ) -> None:
        self._kinds = tuple(kinds)
        self._load = load
        self._bare = bare
        self._info = {"title": "Kubernetes", "version": version}
        self._made: dict[str, bytes] = {}
        custom = [kind for kind in self._kinds if isinstance(kind, CustomKind)]
        self._custom = published.definitions(custom)

    def of(self, kinds: Iterable[Kind]) -> "OpenApi":
        """The documents for *kinds*; what is made already and stays the same is taken along."""
        other = OpenApi(kinds, self._load, self._bare, self._info["version"])
        same = {
            path for path in map(_path_of, self._kinds) if self._hash(path) == other._hash(path)
        }
        other._made = {
            name: made for name, made in self._made.items() if name in same or name == _BASE
        }
        return other

    def index(self) -> bytes:
        """`/openapi/v3`, not packed: where each group's document is.

        The hash changes with the document's content.
        """
        paths = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path)}"}
            for path in sorted({_path_of(kind) for kind in self._kinds})
        }
        return orjson.dumps({"paths": paths})

    def v3(self, path: str) -> bytes | None:
        """The document of `api/v1` or `apis/GROUP/VERSION`; None if that is not served."""
        mine = [kind for kind in self._kinds if _path_of(kind) == path]
        return self._kept(path, lambda: orjson.dumps(self._maker().v3(mine))) if mine else None

    def v2(self) -> bytes:
        return self._kept("v2", lambda: orjson.dumps(self._maker().v2(self._kinds)))

    def v2_protobuf(self) -> bytes:
        """The same with definitions only: it is what kubectl reads at every `apply`."""

        def make() -> bytes:
            return openapi_proto.encode(_Maker(self._bare(), self._info).v2(()))

        base = self._kept(_BASE, make)
        if not self._custom:
            return base
        return base + self._kept(
            "v2 protobuf, more",
            lambda: openapi_proto.encode(_Maker(self._custom, self._info).v2(())),
        )

    def _maker(self) -> "_Maker":
        return _Maker({**self._load(), **self._custom}, self._info)

    def _kept(self, name: str, make: Callable[[], bytes]) -> bytes:
        if name not in self._made:
            self._made[name] = gzip.compress(make(), _PACKING_LEVEL, mtime=0)
        return self._made[name]

    def _hash(self, path: str) -> str:
        """Fingerprint what a document is made from, without making it."""
        mine = [_essence(kind) for kind in self._kinds if _path_of(kind) == path]
        return hashlib.sha256(f"{self._info}{mine}".encode()).hexdigest().upper()


class _Maker:
    """Makes documents while the schemas are loaded."""

    def __init__(self, definitions: Definitions, info: Mapping[str, str]) -> None:
        self._definitions = definitions
        self._info = info
        self._by_gvk = _index(definitions)

    def v3(self, kinds: Sequence[Kind]) -> Object:
        roots = [name for kind in kinds for name in self._names(kind)]
        schemas = {
            name: _schema(self._definitions[name], _V3)
            for name in sorted(self._reachable((*roots, _STATUS, _DELETE_OPTIONS, _PATCH)))
        }
        if _INT_OR_STRING in schemas:
            schemas[_INT_OR_STRING] = {
                "oneOf": [{"type": "integer"}, {"type": "string"}],
                "format": "int-or-string",
            }
        paths = {path: item for kind in kinds for path, item in self._paths(kind, _V3)}
        return {
            "openapi": "3.0.0",
            "info": self._info,
            "paths": paths,
            "components": {"schemas": schemas},
        }

    def v2(self, kinds: Sequence[Kind]) -> Object:
        definitions = {name: _schema(raw, _V2) for name, raw in self._definitions.items()}
        if _QUANTITY in definitions:
            definitions[_QUANTITY] = {"type": "string"}
            definitions[_INT_OR_STRING] = {"type": "string", "format": "int-or-string"}
        paths = {path: item for kind in kinds for path, item in self._paths(kind, _V2)}
        return {"swagger": "2.0", "info": self._info, "paths": paths, "definitions": definitions}

    def _names(self, kind: Kind) -> Iterable[str]:
        """The schemas that a kind's paths speak of: its own, its list's, its subresources'."""
        spoken = {discovery.subresource(kind, name)[0] for name in kind.subresources}
        own = (kind.group, kind.version, kind.kind)
        for gvk in (own, (kind.group, kind.version, kind.list_kind), *spoken):
            if gvk in self._by_gvk:
                yield self._by_gvk[gvk]

    def _reachable(self, roots: Iterable[str]) -> set[str]:
        found: set[str] = set()
        ahead = [name for name in roots if name in self._definitions]
        while ahead:
            name = ahead.pop()
            if name not in found:
                found.add(name)
                ahead += _references(self._definitions[name])
        return found

    def _paths(self, kind: Kind, place: str) -> Iterable[tuple[str, Object]]:
        namespace = "{namespace}" if kind.namespaced else ""
        own = (kind.group, kind.version, kind.kind)
        collection = {"post": "create", "get": "list", "delete": "deletecollection"}
        one = {method: verb for verb, method in _METHODS.items() if verb != "create"}
        if kind.namespaced and "list" in kind.verbs:
            yield kind.path(), self._item(kind, {"get": "list"}, own, place, "")
        served = {method: verb for method, verb in collection.items() if verb in kind.verbs}
        yield kind.path(namespace), self._item(kind, served, own, place, namespace)
        served = {method: verb for method, verb in one.items() if verb in kind.verbs}
        if served:
            path = kind.path(namespace, "{name}")
            yield path, self._item(kind, served, own, place, namespace, "{name}")
        for name in kind.subresources:
            spoken, verbs = discovery.subresource(kind, name)
            served = {_METHODS[verb]: verb for verb in verbs}
            path = kind.path(namespace, "{name}", name)
            yield path, self._item(kind, served, spoken, place, namespace, "{name}")

    def _item(
        self,
        kind: Kind,
        methods: Mapping[str, str],
        spoken: tuple[str, str, str],
        place: str,
        *variables: str,
    ) -> Object:
        item: Object = {
            method: self._operation(kind, method, verb, spoken, place)
            for method, verb in methods.items()
        }
        names = [variable.strip("{}") for variable in variables if variable]
        item["parameters"] = [
            _parameter(name, "path", "string", place, required=True) for name in names
        ]
        return item

    def _operation(
        self, kind: Kind, method: str, verb: str, spoken: tuple[str, str, str], place: str
    ) -> Object:
        answer = (*spoken[:2], f"{spoken[2]}List") if verb == "list" else spoken
        schema = self._by_gvk.get(answer, _STATUS)
        body = {"delete": _DELETE_OPTIONS, "patch": _PATCH}.get(method, self._by_gvk.get(spoken))
        asked = _PARAMETERS.get(verb, _PARAMETERS[method])
        operation: Object = {
            "tags": ["_".join(filter(None, (kind.group or "core", kind.version)))],
            "x-kubernetes-action": {"create": "post", "update": "put"}.get(verb, verb),
            _GVK: dict(zip(("group", "version", "kind"), spoken, strict=True)),
            "parameters": [
                _parameter(name, "query", _TYPES.get(name, "string"), place) for name in asked
            ],
            "responses": {"200": _content("OK", schema, place)},
        }
        if method != "get" and body:
            _add_body(operation, method, body, place)
        return operation


def _add_body(operation: Object, method: str, schema: str, place: str) -> None:
    media = _PATCH_TYPES if method == "patch" else ("application/json", "application/yaml")
    reference = {"$ref": place + schema}
    if place == _V3:
        content = {name: {"schema": reference} for name in media}
        operation["requestBody"] = {"content": content, "required": method != "delete"}
    else:
        operation["consumes"] = list(media)
        operation["parameters"].append({"name": "body", "in": "body", "schema": reference})


def _content(description: str, schema: str, place: str) -> Object:
    reference = {"schema": {"$ref": place + schema}}
    if place == _V2:
        return {"description": description, **reference}
    return {"description": description, "content": {"application/json": reference}}


def _parameter(name: str, where: str, type_: str, place: str, *, required: bool = False) -> Object:
    found: Object = {"name": name, "in": where}
    if required:
        found["required"] = True
    return found | ({"schema": {"type": type_}} if place == _V3 else {"type": type_})


def _path_of(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _essence(kind: Kind) -> str:
    """All that a kind's part of a document depends on."""
    if isinstance(kind, CustomKind):
        about = (kind.kind, kind.plural, kind.namespaced, kind.subresources, kind.version_.raw)
        return f"{about}"
    return f"{kind}"


def _index(definitions: Definitions) -> dict[tuple[str, str, str], str]:
    return {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name, schema in definitions.items()
        for gvk in schema.get(_GVK) or ()
        if name != _DELETE_OPTIONS
    }


def _references(schema: Any) -> Iterable[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(_DEFS)
            else:
                yield from _references(value)


def _schema(raw: Object, place: str) -> Object:
    """Translate one schema: `$ref`s moved to *place*, no `null` among the types."""
    found: Object = {}
    for key, value in raw.items():
        match key:
            case "$ref":
                reference = {"$ref": place + value.removeprefix(_DEFS)}
                siblings = len(raw) > 1 and place == _V3
                found |= {"allOf": [reference]} if siblings else reference
            case "properties":
                found[key] = {name: _property(name, sub, place) for name, sub in value.items()}
            case "items" | "additionalProperties" | "not" if isinstance(value, dict):
                found[key] = _schema(value, place)
            case "oneOf" | "anyOf" | "allOf":
                found[key] = [_schema(sub, place) for sub in value]
            case "type":
                found[key] = _type(value)
            case _:
                found[key] = value
    return found


def _property(name: str, raw: Object, place: str) -> Object:
    """The published schemas pin `apiVersion` and `kind` by an enumeration; OpenAPI does not."""
    schema = _schema(raw, place)
    if name in {"apiVersion", "kind"}:
        schema.pop("enum", None)
    return schema


def _type(value: Any) -> Any:
    if isinstance(value, list):
        return next(type_ for type_ in value if type_ != "null")
    return value
