"""A custom kind: one version of a CustomResourceDefinition, with all that is known about it."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from sampan.api.errors import Cause, MethodNotAllowed
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.custom import checking, rules, values
from sampan.apiserver.custom.checking import Finding, Path, identity
from sampan.apiserver.custom.structural import EMBEDDED, LIST_TYPE, PRESERVE, Schema

OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_TEXT: Final = {"type": "string"}
_WHOLE: Final[Mapping[str, Object]] = {
    "apiVersion": _TEXT,
    "kind": _TEXT,
    "metadata": {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}},
}
_ANYTHING: Final[dict[str, Any]] = {"type": "object"}
_ANYTHING["additionalProperties"] = _ANYTHING


class Version:
    """What one version of a definition says; compiled when it is first needed."""

    def __init__(self, raw: Object) -> None:
        self.raw = raw
        self.name: str = raw["name"]
        given: Object = (raw.get("schema") or {}).get("openAPIV3Schema") or {}
        self.published: Schema = given
        """The schema as its author wrote it."""
        properties = given.get("properties") or {}
        whole = {name: _merged(inner, properties.get(name)) for name, inner in _WHOLE.items()}
        self.schema: Schema = {**given, "type": "object", "properties": {**properties, **whole}}
        parts = raw.get("subresources") or {}
        self.has_status = "status" in parts
        self.scale: Mapping[str, str] | None = parts.get("scale")
        self.selectable = frozenset(
            one["jsonPath"].removeprefix(".") for one in raw.get("selectableFields") or ()
        )

    @cached_property
    def _validator(self) -> Any:
        return checking.compiled(self.schema)

    @cached_property
    def _rules(self) -> rules.Tree | None:
        return rules.tree(self.schema)

    @cached_property
    def fills(self) -> bool:
        return values.has_defaults(self.schema)

    @cached_property
    def owned_schema(self) -> Schema:
        """The schema by which server-side apply tells fields and items apart."""
        found = _granular(self.schema)
        found["properties"]["metadata"] = {"$ref": f"#/$defs/{OBJECT_META}"}
        return found

    def fill(self, obj: Object) -> None:
        """Drop nulls that mean nothing, and set the defaults of *obj*, in place."""
        values.fill(obj, self.schema)

    def unknown(self, obj: Object) -> Sequence[Path]:
        return values.unknown(obj, self.schema)

    def check(self, obj: Object, old: Object | None = None) -> list[Cause]:
        """What *obj* breaks; what was as wrong in *old* and has not changed is let pass."""
        findings = checking.check(self._validator, self.schema, obj)
        if not findings and self._rules:
            findings = list(rules.check(self._rules, obj, old, created=old is None))
        if old is None or not findings:
            return [cause for _, cause in findings]
        return [cause for finding in findings if (cause := self._fresh(finding, obj, old))]

    def _fresh(self, finding: Finding, new: Object, old: Object) -> Cause | None:
        path, cause = finding
        changed = _at(new, new, path, self.schema) != _at(old, new, path, self.schema)
        return cause if changed else None


def _merged(inner: Object, given: Schema | None) -> Object:
    """What every object has at this place, with what the definition restricts of it."""
    if not given:
        return inner
    properties = inner.get("properties") or {}
    if not properties:
        return {**given, **inner}
    named = given.get("properties") or {}
    return {**given, **inner, "properties": {**properties, **named}}


_MISSING: Final = object()


def _at(value: Any, guide: Any, path: Path, schema: Schema | None) -> Any:
    """What *value* has at *path*, which is one of *guide*: items of maps are found by key."""
    for part in path:
        if isinstance(part, str):
            value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
            guide = guide.get(part) if isinstance(guide, dict) else None
            schema = values.field_schema(schema or {}, part)
            continue
        item = guide[part] if isinstance(guide, list) and part < len(guide) else None
        value = _same(value, item, part, schema or {})
        guide, schema = item, (schema or {}).get("items")
    return value


def _same(items: Any, item: Any, index: int, schema: Schema) -> Any:
    if not isinstance(items, list):
        return _MISSING
    if schema.get(LIST_TYPE) == "map":
        wanted = identity(item, schema)
        return next((one for one in items if identity(one, schema) == wanted), _MISSING)
    return items[index] if index < len(items) else _MISSING


def _granular(schema: Schema) -> dict[str, Any]:
    """*schema*, with owners inside of what it lets pass unseen, as structured merge does."""
    found = dict(schema)
    if "properties" in schema:
        found["properties"] = {name: _granular(one) for name, one in schema["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            found[name] = _granular(schema[name])
    open_ended = schema.get(PRESERVE) or schema.get(EMBEDDED) or found.get(_MORE) is True
    if open_ended and not isinstance(found.get(_MORE), dict):
        found[_MORE] = _ANYTHING
    return found


_MORE: Final = "additionalProperties"


class CustomKind(Kind, frozen=True):
    """A kind that a definition makes; it goes through everything that a built-in kind does."""

    version_: Version = Version({"name": ""})
    definition: "Definition | None" = None
    singular_name: str = ""
    list_name: str = ""

    @property
    def list_kind(self) -> str:
        return self.list_name

    @property
    def singular(self) -> str:
        return self.singular_name

    def check_alive(self, verb: str) -> None:
        """Raise MethodNotAllowed if the definition is on its way out."""
        if self.definition and self.definition.terminating:
            raise MethodNotAllowed(
                f"{verb} not allowed while custom resource definition is terminating"
            )

    @property
    def stored(self) -> "CustomKind":
        """The version that objects are kept in."""
        return self.definition.stored if self.definition else self


class Definition:
    """One accepted CustomResourceDefinition: its kinds, a version each."""

    def __init__(self, raw: Object) -> None:
        self.raw = raw
        spec = raw["spec"]
        self.name: str = raw["metadata"]["name"]
        self.uid: str = raw["metadata"]["uid"]
        self.revision = int(raw["metadata"]["resourceVersion"])
        """Objects that are older than this may be of another schema."""
        self.conversion: Object = spec.get("conversion") or {"strategy": "None"}
        self.terminating = bool(raw["metadata"].get("deletionTimestamp"))
        """Nothing may be created any more; also told to those who got the kind before."""
        self.kinds: Mapping[str, CustomKind] = {
            version["name"]: self._kind(spec, version) for version in spec["versions"]
        }
        self.served: Sequence[CustomKind] = [
            self.kinds[version["name"]] for version in spec["versions"] if version.get("served")
        ]
        stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
        self.stored = self.kinds[stored]

    def _kind(self, spec: Object, version: Object) -> CustomKind:
        names = (self.raw.get("status") or {}).get("acceptedNames") or spec["names"]
        found = Version(version)
        parts = [*(("scale",) if found.scale else ()), *(("status",) if found.has_status else ())]
        return CustomKind(
            spec["group"],
            version["name"],
            names["kind"],
            names["plural"],
            spec["scope"] == "Namespaced",
            tuple(names.get("shortNames") or ()),
            tuple(names.get("categories") or ()),
            tuple(parts),
            version_=found,
            definition=self,
            singular_name=names.get("singular") or names["kind"].lower(),
            list_name=names.get("listKind") or f"{names['kind']}List",
        )
