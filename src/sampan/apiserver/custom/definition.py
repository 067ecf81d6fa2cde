"""CustomResourceDefinitions themselves: their defaults, and what they may say. Pure.

Source: Kubernetes, pkg/apis/apiextensions/validation of k8s.io/apiextensions-apiserver, whose
words these are. As there, what all versions share is told as a part of the whole.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.apiserver.custom import checking, jsonpath, rules, structural, values
from sampan.apiserver.custom.names import ESTABLISHED, is_true
from sampan.apiserver.problems import bad_value, not_allowed, required, shown, unsupported
from sampan.apiserver.schemas import shown_path
from sampan.apiserver.validation import names as forms

FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("int32", "int64", "float", "double", "byte", "date", "date-time",
                          "password")  # fmt: skip
_REVIEW_VERSIONS: Final = ("v1", "v1beta1")
_APPROVED: Final = "api-approved.kubernetes.io"
_PROTECTED: Final = re.compile(r"(.*\.)?(k8s|kubernetes)\.io")
_MOST_SELECTABLE: Final = 8


def default(crd: Object) -> None:
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    if kind := names.get("kind"):
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")
    conversion = spec.get("conversion") or {"strategy": "None"}
    if spec:
        spec["conversion"] = conversion
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service:
        service.setdefault("port", 443)


def validate(crd: Object) -> Iterator[Cause]:
    spec = crd["spec"]
    names, group = spec.get("names") or {}, spec.get("group") or ""
    wanted = f"{names.get('plural', '')}.{group}"
    if crd["metadata"].get("name") != wanted:
        why = 'must be spec.names.plural+"."+spec.group'
        yield bad_value("metadata.name", crd["metadata"].get("name", ""), why)
    yield from _group(group, crd["metadata"].get("annotations") or {})
    yield from _names(names)
    if spec.get("scope") not in {"Namespaced", "Cluster"}:
        yield unsupported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        why = f"must be false: set {structural.PRESERVE} in the schema instead"
        yield bad_value("spec.preserveUnknownFields", True, why)
    yield from _conversion(spec.get("conversion") or {})
    yield from _versions(spec.get("versions") or ())


def _group(group: str, annotations: Mapping[str, str]) -> Iterator[Cause]:
    if not group:
        yield required("spec.group")
    elif wrong := forms.subdomain(group):
        yield bad_value("spec.group", group, wrong)
    elif "." not in group:
        yield bad_value("spec.group", group, "should be a domain with at least one dot")
    elif _PROTECTED.fullmatch(group) and not annotations.get(_APPROVED):
        yield required(
            f"metadata.annotations[{_APPROVED}]",
            f'protected groups must have approval annotation "{_APPROVED}", see '
            "https://github.com/kubernetes/enhancements/pull/1111",
        )


def _names(names: Object) -> Iterator[Cause]:
    for field in ("plural", "singular", "kind", "listKind"):
        name = names.get(field)
        if not name:
            yield required(f"spec.names.{field}")
        elif wrong := forms.label_1035(name.lower() if "ind" in field else name):
            told = f"may have mixed case, but should otherwise match: {wrong}"
            yield bad_value(f"spec.names.{field}", name, told if "ind" in field else wrong)
    for field in ("shortNames", "categories"):
        for index, name in enumerate(names.get(field) or ()):
            if wrong := forms.label_1035(name):
                yield bad_value(f"spec.names.{field}[{index}]", name, wrong)
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        why = "kind and listKind may not be the same"
        yield bad_value("spec.names.listKind", names["listKind"], why)


def _conversion(conversion: Object) -> Iterator[Cause]:
    field, webhook = "spec.conversion", conversion.get("webhook")
    strategy = conversion.get("strategy")
    if strategy not in {"None", "Webhook"}:
        yield unsupported(f"{field}.strategy", strategy or "", ("None", "Webhook"))
    elif strategy == "None":
        if webhook:
            why = "should not be set when strategy is not set to Webhook"
            yield not_allowed(f"{field}.webhook", why)
    elif not webhook:
        why = "required when strategy is set to Webhook"
        yield required(f"{field}.webhook.clientConfig", why)
    else:
        client = webhook.get("clientConfig") or {}
        if bool(client.get("url")) == bool(client.get("service")):
            why = "exactly one of url or service is required"
            yield required(f"{field}.webhook.clientConfig", why)
        versions = webhook.get("conversionReviewVersions") or ()
        if not set(versions) & set(_REVIEW_VERSIONS):
            why = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
            yield bad_value(f"{field}.webhook.conversionReviewVersions", list(versions), why)


def _versions(versions: Sequence[Object]) -> Iterator[Cause]:
    called = [version.get("name") or "" for version in versions]
    if len(set(called)) != len(called):
        yield bad_value("spec.versions", called, "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        why = "must have exactly one version marked as storage version"
        yield bad_value("spec.versions", called, why)
    for index, version in enumerate(versions):
        field = f"spec.versions[{index}]"
        if wrong := forms.label_1035(version.get("name") or ""):
            yield bad_value(f"{field}.name", version.get("name") or "", wrong)
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            yield required(f"{field}.schema.openAPIV3Schema", "schemas are required")
    shared = {part: _same(versions, part) for part in _PARTS}
    for index, version in enumerate(versions):
        for part, (field, check) in _PARTS.items():
            if part in version and not (shared[part] and index):
                place = f"spec.{field}" if shared[part] else f"spec.versions[{index}].{part}"
                yield from check(version, place)


def _same(versions: Sequence[Object], part: str) -> bool:
    return all(version.get(part) == versions[0].get(part) for version in versions)


def _schema(version: Object, field: str) -> Iterator[Cause]:
    schema = version["schema"].get("openAPIV3Schema")
    if not schema:
        return
    place = f"{field}.openAPIV3Schema"
    found = list(structural.validate(schema, place))
    yield from found
    if not found and (wrong := checking.problem(schema)):
        yield bad_value(place, "", wrong)
    elif not found:
        yield from rules.validate(schema, place)
        yield from _defaults(schema, place, root=True)


def _defaults(schema: Mapping[str, Any], field: str, *, root: bool = False) -> Iterator[Cause]:
    """Defaults that are not what their own schema asks for."""
    if "default" in schema:
        if root:
            yield not_allowed(f"{field}.default", "must not be set at the root")
        value = {"default": deepcopy(schema["default"])}
        whole = {"properties": {"default": schema}}
        for path in values.unknown(value, whole):
            told = shown_path(path[1:])
            yield bad_value(f"{field}.default", shown(schema["default"]),
                            f"must not contain unknown fields: {told}")  # fmt: skip
        values.fill(value, whole)
        for path, cause in checking.check(checking.compiled(whole), whole, value):
            place = shown_path(path).removeprefix("default")
            yield Cause(cause.reason, cause.message, f"{field}.default{place}")
    for place, inner, _ in structural.children(schema, field):
        yield from _defaults(inner, place)


def _subresources(version: Object, field: str) -> Iterator[Cause]:
    scale = version["subresources"].get("scale")
    if scale is None:
        return
    for name, roots in (
        ("specReplicasPath", (".spec.",)),
        ("statusReplicasPath", (".status.",)),
        ("labelSelectorPath", (".spec.", ".status.")),
    ):
        path, place = scale.get(name), f"{field}.scale.{name}"
        if not path:
            if name != "labelSelectorPath":
                yield required(place)
            continue
        if "[" in path or not path.startswith("."):
            yield bad_value(place, path, "should be a simple json path with . notation")
        elif not path.startswith(roots):
            told = " or ".join(root.rstrip(".") for root in roots)
            yield bad_value(place, path, f"should be a json path under {told}")


def _columns(version: Object, field: str) -> Iterator[Cause]:
    for index, column in enumerate(version["additionalPrinterColumns"] or ()):
        place = f"{field}[{index}]"
        for name in ("name", "type", "jsonPath"):
            if not column.get(name):
                yield required(f"{place}.{name}")
        if column.get("type") and column["type"] not in _COLUMN_TYPES:
            why = f"must be one of {','.join(_COLUMN_TYPES)}"
            yield bad_value(f"{place}.type", column["type"], why)
        if column.get("format") and column["format"] not in _COLUMN_FORMATS:
            why = f"must be one of {','.join(_COLUMN_FORMATS)}"
            yield bad_value(f"{place}.format", column["format"], why)
        if column.get("jsonPath"):
            try:
                jsonpath.parse(column["jsonPath"])
            except jsonpath.BadPath as error:
                yield bad_value(f"{place}.jsonPath", column["jsonPath"], str(error))


def _selectable(version: Object, field: str) -> Iterator[Cause]:
    found = version["selectableFields"] or ()
    if len(found) > _MOST_SELECTABLE:
        why = f"Too many: {len(found)}: must have at most {_MOST_SELECTABLE} items"
        yield Cause("FieldValueTooMany", why, field)
    seen: set[str] = set()
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    for index, one in enumerate(found):
        path, place = one.get("jsonPath") or "", f"{field}[{index}].jsonPath"
        if not path:
            yield required(place)
        elif path in seen:
            yield Cause("FieldValueDuplicate", f"Duplicate value: {shown(path)}", place)
        elif path.startswith(".metadata"):
            yield bad_value(place, path, "must not point to fields in metadata")
        elif _type_at(schema, path) not in {"string", "boolean", "integer"}:
            why = (
                "must point to a field of type string, boolean or integer. Enum string fields "
                "and strings with formats are allowed."
            )
            yield bad_value(place, path, why)
        seen.add(path)


def _type_at(schema: Mapping[str, Any], path: str) -> str:
    found: Mapping[str, Any] = schema
    for part in path.removeprefix(".").split("."):
        found = (found.get("properties") or {}).get(part) or {}
    return str(found.get("type") or "")


_PARTS: Final = {
    "schema": ("validation", _schema),
    "subresources": ("subresources", _subresources),
    "additionalPrinterColumns": ("additionalPrinterColumns", _columns),
    "selectableFields": ("selectableFields", _selectable),
}
"""The parts of a version, what they are told as where all versions share them, and their rules."""


def validate_update(old: Object, new: Object) -> Iterator[Cause]:
    before, after = old["spec"], new["spec"]
    fixed = [("group", before["group"], after.get("group")),
             ("names.plural", before["names"]["plural"], after["names"].get("plural"))]  # fmt: skip
    if is_true(old, ESTABLISHED):
        fixed += [
            ("scope", before["scope"], after.get("scope")),
            ("names.kind", before["names"]["kind"], after["names"].get("kind")),
        ]
    for field, held, wanted in fixed:
        if held != wanted:
            yield bad_value(f"spec.{field}", wanted, "field is immutable")
    yield from validate_stored(new)


def validate_stored(crd: Object) -> Iterator[Cause]:
    """Versions that objects may still be kept in must stay."""
    called = {version.get("name") for version in crd["spec"].get("versions") or ()}
    for index, version in enumerate((crd.get("status") or {}).get("storedVersions") or ()):
        if version not in called:
            why = (
                f"missing from spec.versions; {version} was previously a storage version, and "
                "must remain in spec.versions until a storage migration ensures no data remains "
                f"persisted in {version} and removes {version} from status.storedVersions"
            )
            yield bad_value(f"status.storedVersions[{index}]", version, why)
