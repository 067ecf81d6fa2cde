"""From what a client sent to an object of ours: a copy that fits the schema of its kind."""

import re
from typing import Any, Final

import orjson
from msgspec.structs import replace

from sampan.api.errors import BadRequest
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import schemas
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.interface import Call
from sampan.apiserver.problems import undecodable


def decoded(kind: Kind, obj: Any, call: Call) -> Object:
    """An own copy of *obj*, in which fields may be missing, but none has a wrong type.

    Unknown fields are refused, warned of or ignored, as *call* asks, and are not in the copy.
    """
    custom = kind.version_ if isinstance(kind, CustomKind) else None
    copy = copied(obj, nulls=custom is not None)
    if not isinstance(copy, dict):
        raise undecodable(kind, "it is not an object")
    _check_kind(kind, copy)
    if not isinstance(copy.setdefault("metadata", {}), dict):
        raise undecodable(kind, "metadata is not an object")
    findings = schemas.check_metadata(copy) if custom else schemas.check(kind, copy)
    if custom and (more := custom.unknown(copy)):
        findings = replace(findings, unknown=[*findings.unknown, *more])
    if findings.mistyped:
        raise undecodable(kind, "; ".join(findings.mistyped))
    if findings.unknown:
        _unknown(kind, copy, findings, call)
    return copy


_WHOLE_FLOAT: Final = re.compile(rb"[:\[,]-?\d+(?:\.0|(?:\.\d+)?e\+?\d+)[,\]}]")


def copied(obj: Any, *, nulls: bool = False) -> Any:
    """A deep copy of JSON as Go would write it.

    Nulls are left out unless *nulls* may mean something, which they do in custom objects only, and
    a whole number is no float, since a schema takes 2.0 for an integer and Python does not.
    """
    try:
        text = orjson.dumps(obj)
    except TypeError as error:
        raise BadRequest(f"not JSON: {error}") from error
    copy = orjson.loads(text)
    if (b"null" in text and not nulls) or _WHOLE_FLOAT.search(text):
        return schemas.plain(copy, nulls=nulls)
    return copy


def _check_kind(kind: Kind, obj: Object) -> None:
    if obj.setdefault("kind", kind.kind) != kind.kind:
        raise BadRequest(f"the kind in the data ({obj['kind']}) does not match the expected kind "
                         f"({kind.kind})")  # fmt: skip
    if obj.setdefault("apiVersion", kind.api_version) != kind.api_version:
        raise BadRequest(
            f"the API version in the data ({obj['apiVersion']}) does not match the expected API "
            f"version ({kind.api_version})"
        )


def _unknown(kind: Kind, obj: Object, findings: schemas.Findings, call: Call) -> None:
    told = sorted(f'unknown field "{schemas.shown_path(path)}"' for path in findings.unknown)
    if call.validation == "Strict":
        raise undecodable(kind, f"strict decoding error: {', '.join(told)}")
    if call.validation == "Warn":
        call.warnings.extend(told)
    schemas.prune(obj, findings.unknown)
