"""`x-kubernetes-validations`: rules in CEL at any place of a schema.

A rule sees its own value as `self`, and on an update the value that was there before as `oldSelf`,
where that can be told: fields by name, items of a map by their keys, others not at all. Source:
Kubernetes, "Validation rules"; k8s.io/apiextensions-apiserver, pkg/apiserver/schema/cel.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from msgspec import Struct

from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.apiserver.custom.checking import Path, identity
from sampan.apiserver.custom.structural import (
    EMBEDDED,
    INT_OR_STRING,
    LIST_TYPE,
    PRESERVE,
    RULES,
    Schema,
    children,
)
from sampan.apiserver.custom.values import field_schema
from sampan.apiserver.expressions import (
    CannotCompile,
    CannotEvaluate,
    Program,
    TypeName,
    compile_expression,
)
from sampan.apiserver.problems import bad_value, required, unsupported
from sampan.apiserver.schemas import shown_path

_LITERAL: Final = re.compile(r"""r?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_OLD: Final = re.compile(r"\boldSelf\b")
_REASONS: Final = (
    "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired",
)  # fmt: skip
_OPTIONAL: Final = (
    "cel.bind(oldSelf, size(oldSelf__) == 0 ? optional.none() : optional.of(oldSelf__[0]), {})"
)
_RESERVED: Final = frozenset({
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function",
    "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
})  # fmt: skip
_SCALARS: Final[Mapping[str, TypeName]] = {
    "string": "string", "integer": "int", "number": "double", "boolean": "bool",
}  # fmt: skip
_ESCAPES: Final = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"),
                   ("/", "__slash__"))  # fmt: skip
_ANYTHING: Final[Schema] = {PRESERVE: True}
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Rule(Struct, frozen=True):
    """One rule, compiled."""

    program: Program
    type: str
    message: str = ""
    message_program: Program | None = None
    reason: str = "FieldValueInvalid"
    field: str = ""
    uses_old: bool = False
    optional_old: bool = False

    @property
    def words(self) -> str:
        return self.message or f"failed rule: {self.program.source.strip()}"


class Tree(Struct, frozen=True):
    """The rules of a place in a schema, and of what is inside; None where there are none."""

    schema: Schema
    rules: Sequence[Rule] = ()
    fields: Mapping[str, "Tree"] = {}
    others: "Tree | None" = None
    items: "Tree | None" = None


def tree(schema: Schema) -> Tree | None:
    """Compile all rules of *schema*, which is valid; None if it has none."""
    rules = [_compiled(raw, schema) for raw in schema.get(RULES) or ()]
    properties = (schema.get("properties") or {}).items()
    fields = {name: found for name, inner in properties if (found := tree(inner))}
    additional, items = schema.get("additionalProperties"), schema.get("items")
    others = tree(additional) if isinstance(additional, dict) else None
    inside = tree(items) if isinstance(items, dict) else None
    if not (rules or fields or others or inside):
        return None
    return Tree(schema, rules, fields, others, inside)


def _compiled(raw: Object, schema: Schema) -> Rule:
    source = raw["rule"]
    optional = bool(raw.get("optionalOldSelf"))
    variables = _variables(schema, optional=optional)
    message = raw.get("messageExpression")
    program = compile_expression(_OPTIONAL.format(source) if optional else source, variables)
    return Rule(
        Program(source, program.compiled),
        schema.get("type") or "",
        raw.get("message") or "",
        compile_expression(message, variables) if message else None,
        raw.get("reason") or "FieldValueInvalid",
        raw.get("fieldPath") or "",
        uses_old(source),
        optional,
    )


def _variables(schema: Schema, *, optional: bool) -> dict[str, TypeName]:
    type_ = _type_name(schema)
    return {"self": type_, "oldSelf__": "list"} if optional else {"self": type_, "oldSelf": type_}


def _type_name(schema: Schema) -> TypeName:
    if schema.get(INT_OR_STRING) or schema.get("nullable"):
        return "dyn"
    return _SCALARS.get(schema.get("type") or "", "dyn")


def uses_old(source: str) -> bool:
    return bool(_OLD.search(_LITERAL.sub("''", source)))


def validate(schema: Schema, field: str, *, correlatable: bool = True) -> Iterator[Cause]:
    """What is wrong with the rules of *schema* themselves."""
    for index, raw in enumerate(schema.get(RULES) or ()):
        yield from _rule_causes(raw, schema, f"{field}.{RULES}[{index}]", correlatable)
    stable = correlatable and schema.get(LIST_TYPE) in {None, "map"}
    for place, inner, what in children(schema, field):
        inside = stable if what == "object fields" else (
            correlatable and schema.get(LIST_TYPE) == "map"
        )  # fmt: skip
        yield from validate(inner, place, correlatable=inside)


def _rule_causes(raw: Object, schema: Schema, field: str, correlatable: bool) -> Iterator[Cause]:  # noqa: FBT001 - a plain fact
    source = raw.get("rule") or ""
    if not source.strip():
        yield required(f"{field}.rule", "rule is not specified")
        return
    try:
        rule = _compiled({**raw, "messageExpression": None}, schema)
    except CannotCompile as error:
        yield _uncompiled(f"{field}.rule", raw, str(error))
    else:
        if rule.program.type not in {"bool", "dyn"}:
            yield _uncompiled(f"{field}.rule", raw, "cel expression must evaluate to a bool")
        if rule.uses_old and not correlatable:
            why = "oldSelf cannot be used on the uncorrelatable portion of the schema"
            yield bad_value(f"{field}.rule", source, why)
    yield from _message_causes(raw, schema, field)
    if (reason := raw.get("reason")) and reason not in _REASONS:
        yield unsupported(f"{field}.reason", reason, _REASONS)
    if path := raw.get("fieldPath"):
        yield from _path_causes(path, schema, f"{field}.fieldPath")


def _message_causes(raw: Object, schema: Schema, field: str) -> Iterator[Cause]:
    message = raw.get("message")
    if message is not None and not message.strip():
        yield bad_value(f"{field}.message", message, "message must be non-empty if specified")
    elif message and "\n" in message.strip():
        yield bad_value(f"{field}.message", message, "message must not contain line breaks")
    source = raw.get("messageExpression")
    if not source:
        return
    try:
        variables = _variables(schema, optional=bool(raw.get("optionalOldSelf")))
        if compile_expression(source, variables).type not in {"string", "dyn"}:
            why = "messageExpression must evaluate to a string"
            yield _uncompiled(f"{field}.messageExpression", raw, why)
    except CannotCompile as error:
        yield _uncompiled(f"{field}.messageExpression", raw, str(error))


def _uncompiled(field: str, raw: Object, why: str) -> Cause:
    told = {"Rule": raw.get("rule"), "Message": raw.get("message"),
            "MessageExpression": raw.get("messageExpression")}  # fmt: skip
    parts = ", ".join(f"{key}:{orjson.dumps(value or '').decode()}" for key, value in told.items())
    text = f"Invalid value: apiextensions.ValidationRule{{{parts}}}: {why}"
    return Cause("FieldValueInvalid", text, field)


_PATH_STEP: Final = re.compile(r"\.([A-Za-z_][\w-]*)|\['([^']+)'\]")


def _path_causes(path: str, schema: Schema, field: str) -> Iterator[Cause]:
    at, where = 0, schema
    while at < len(path):
        match = _PATH_STEP.match(path, at)
        inner = field_schema(where, match[1] or match[2]) if match else None
        if match is None or inner is None:
            yield bad_value(field, path, "fieldPath must be a valid path to a field of the schema")
            return
        at, where = match.end(), inner


def check(found: Tree, new: Any, old: Any = None, *, created: bool) -> Iterator[tuple[Path, Cause]]:
    """What breaks the rules in *new*, which follows *old* unless it is *created*."""
    yield from _check(found, new, [] if created else [old], ())


def _check(node: Tree, value: Any, old: list[Any], path: Path) -> Iterator[tuple[Path, Cause]]:
    """*old* has the value that was at the same place, or nothing if there was none."""
    if value is None:
        return
    if node.rules:
        yield from _own(node, value, old, path)
    if isinstance(value, dict):
        for name, part in value.items():
            if inner := _inside(node, name):
                there = [one[name] for one in old if isinstance(one, dict) and name in one]
                yield from _check(inner, part, there, (*path, name))
    elif isinstance(value, list) and node.items:
        for index, part in enumerate(value):
            there = _same_item(part, old, node.schema)
            yield from _check(node.items, part, there, (*path, index))


def _own(node: Tree, value: Any, old: list[Any], path: Path) -> Iterator[tuple[Path, Cause]]:
    shown = cel_value(value, node.schema)
    before = [cel_value(one, node.schema) for one in old if one is not None]
    for rule in node.rules:
        if rule.uses_old and not before and not rule.optional_old:
            continue
        if cause := _broken(rule, shown, before, path):
            yield path, cause


def _inside(node: Tree, name: str) -> Tree | None:
    if name in (node.schema.get("properties") or {}):
        return node.fields.get(name)
    return node.others


def _same_item(item: Any, old: list[Any], schema: Schema) -> list[Any]:
    if schema.get(LIST_TYPE) != "map":
        return []
    wanted = identity(item, schema)
    lists = (one for one in old if isinstance(one, list))
    return [one for items in lists for one in items if identity(one, schema) == wanted][:1]


def _broken(rule: Rule, value: Any, before: list[Any], path: Path) -> Cause | None:
    given = {"self": value}
    if rule.optional_old:
        given["oldSelf__"] = before
    else:
        given["oldSelf"] = before[0] if before else None
    field = (shown_path(path) + rule.field).removeprefix(".") or "<nil>"
    try:
        if rule.program.evaluate(given) is True:
            return None
    except CannotEvaluate as error:
        told = f"{error} evaluating rule: {rule.message or rule.program.source.strip()}"
        return Cause("FieldValueInvalid", f'Invalid value: "{rule.type}": {told}', field)
    words = _message(rule, given)
    match rule.reason:
        case "FieldValueRequired":
            return required(field, words)
        case "FieldValueForbidden":
            return Cause(rule.reason, f"Forbidden: {words}", field)
        case "FieldValueDuplicate":
            return Cause(rule.reason, f'Duplicate value: "{rule.type}": {words}', field)
    return Cause(rule.reason, f'Invalid value: "{rule.type}": {words}', field)


def _message(rule: Rule, given: Mapping[str, Any]) -> str:
    if rule.message_program is None:
        return rule.words
    try:
        text = rule.message_program.evaluate(given)
    except CannotEvaluate:
        return rule.words
    usable = isinstance(text, str) and text.strip() and "\n" not in text
    return text.strip() if usable else rule.words


def cel_value(value: Any, schema: Schema) -> Any:
    """*value* as an expression sees it: numbers by their type, fields by their CEL names."""
    if isinstance(value, dict):
        shown: Object = {}
        for name, part in value.items():
            inner = field_schema(schema, name)
            if inner is None and not (schema.get(PRESERVE) or _typed(schema, name)):
                continue
            named = name in (schema.get("properties") or {})
            shown[cel_name(name) if named else name] = cel_value(part, inner or _ANYTHING)
        return shown
    if isinstance(value, list):
        inner = schema.get("items")
        inner = inner if isinstance(inner, dict) else _ANYTHING
        return [cel_value(part, inner) for part in value]
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _typed(schema: Schema, name: str) -> bool:
    """Whether *name* is a field that every whole object has."""
    return bool(schema.get(EMBEDDED)) and name in {"apiVersion", "kind", "metadata"}


def cel_name(name: str) -> str:
    """The name by which an expression reaches the field *name*, which may be no identifier."""
    if name in _RESERVED:
        return f"__{name}__"
    if _NAME.fullmatch(name) and "__" not in name:
        return name
    for character, escaped in _ESCAPES:
        name = name.replace(character, escaped)
    return name
