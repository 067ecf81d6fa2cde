"""Refusals in Kubernetes' own words, which clients and people know how to read."""

from collections.abc import Sequence

from sampan.api.errors import (
    AlreadyExists,
    BadRequest,
    Cause,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
)
from sampan.api.kinds import Kind
from sampan.api.objects import Object

MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def details(kind: Kind, name: str) -> Object:
    about: Object = {"name": name, "kind": kind.plural}
    if kind.group:
        about["group"] = kind.group
    return about


def not_found(kind: Kind, name: str) -> NotFound:
    return NotFound(f'{kind.resource} "{name}" not found', details=details(kind, name))


def already_exists(kind: Kind, name: str) -> AlreadyExists:
    return AlreadyExists(f'{kind.resource} "{name}" already exists', details=details(kind, name))


def conflict(kind: Kind, name: str, why: str = MODIFIED, subresource: str = "") -> Conflict:
    resource = f"{kind.resource}/{subresource}" if subresource else kind.resource
    return Conflict(
        f'Operation cannot be fulfilled on {resource} "{name}": {why}', details=details(kind, name)
    )


def forbidden(kind: Kind, name: str, why: str) -> Forbidden:
    return Forbidden(f'{kind.resource} "{name}" is forbidden: {why}', details=details(kind, name))


def undecodable(kind: Kind, why: str) -> BadRequest:
    return BadRequest(
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}'
    )


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> Invalid:
    told = [f"{cause.field}: {cause.message}" for cause in causes]
    text = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    about = {**details(kind, name), "kind": kind.kind}
    return Invalid(f'{kind.kind} "{name}" is invalid: {text}', causes=causes, details=about)


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value{': ' + why if why else ''}", field)


def bad_value(field: str, value: object, why: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {why}", field)


def duplicate(field: str, value: object) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown(value)}", field)


def not_allowed(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def unsupported(field: str, value: object, known: Sequence[str]) -> Cause:
    listed = ", ".join(f'"{one}"' for one in known)
    return Cause(
        "FieldValueNotSupported",
        f"Unsupported value: {shown(value)}: supported values: {listed}",
        field,
    )


def too_long(field: str, limit: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field)


def shown(value: object) -> str:
    """Write *value* as Go does: text in quotes, the rest bare."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return str(value)
