"""What a webhook or an expression is told of an attempt, and what a webhook's answer means. Pure.

Source: Kubernetes, "Dynamic Admission Control", AdmissionReview v1.
"""

import base64
import binascii
from typing import Any, Final

import orjson
from msgspec import Struct

from sampan.api.errors import ApiError, BadRequest, InternalError, error_from_status
from sampan.api.kinds import NAMESPACES, Kind
from sampan.api.objects import Object
from sampan.apiserver.admission.attempt import Attempt
from sampan.apiserver.admission.matching import shown_as

_VERSION: Final = "admission.k8s.io/v1"
_REFUSED: Final = 400
_OPTIONS: Final = {
    "CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions",
}  # fmt: skip


def request(attempt: Attempt, kind: Kind, uid: str) -> Object:
    """The AdmissionRequest of *attempt*, whose objects are shown as objects of *kind*."""
    what, resource = _gvk(kind), _gvr(kind)
    if attempt.shown_kind:
        what = _gvk(attempt.shown_kind)
    called = attempt.name if attempt.kind == NAMESPACES else attempt.namespace
    told: Object = {
        "uid": uid,
        "kind": what,
        "resource": resource,
        "requestKind": what,
        "requestResource": resource,
        "name": attempt.name,
        "operation": attempt.operation,
        "userInfo": _user(attempt),
        "object": attempt.object,
        "oldObject": attempt.old,
        "dryRun": attempt.call.dry_run,
        "options": _options(attempt),
    }
    if not attempt.shown_kind:
        told["object"] = shown_as(kind, attempt.kind, attempt.object)
        told["oldObject"] = shown_as(kind, attempt.kind, attempt.old)
    if called:
        told["namespace"] = called
    if attempt.subresource:
        told["subResource"] = told["requestSubResource"] = attempt.subresource
    return told


def _gvk(kind: Kind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _gvr(kind: Kind) -> Object:
    return {"group": kind.group, "version": kind.version, "resource": kind.plural}


def _user(attempt: Attempt) -> Object:
    user = attempt.call.user
    told: Object = {"username": user.name, "groups": list(user.groups)}
    return {**told, **{k: v for k, v in (("uid", user.uid), ("extra", user.extra)) if v}}


def _options(attempt: Attempt) -> Object | None:
    if attempt.options or attempt.operation not in _OPTIONS:
        return attempt.options or None
    options: Object = {"kind": _OPTIONS[attempt.operation], "apiVersion": "meta.k8s.io/v1"}
    if attempt.call.manager:
        options["fieldManager"] = attempt.call.manager
    if attempt.call.dry_run:
        options["dryRun"] = ["All"]
    return options


def review(told: Object) -> Object:
    return {"kind": "AdmissionReview", "apiVersion": _VERSION, "request": told}


class Verdict(Struct, frozen=True):
    allowed: bool
    status: Object
    patch: Any = None
    warnings: tuple[str, ...] = ()


def verdict(answer: Object, uid: str) -> Verdict:
    """Read a webhook's answer; raise InternalError if it makes no sense."""
    found = answer.get("apiVersion"), answer.get("kind")
    if found != (_VERSION, "AdmissionReview"):
        raise InternalError(
            f"expected webhook response of {_VERSION}, Kind=AdmissionReview, got {found[0]}, "
            f"Kind={found[1]}"
        )
    response = answer.get("response")
    if not isinstance(response, dict):
        raise InternalError("webhook response was absent")
    if response.get("uid") != uid:
        raise InternalError(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    if not isinstance(response.get("allowed"), bool):
        raise InternalError("response.allowed is not a boolean")
    return Verdict(
        response["allowed"],
        response.get("status") or {},
        _patch(response),
        tuple(str(warning) for warning in response.get("warnings") or ()),
    )


def _patch(response: Object) -> Any:
    if not response.get("patch"):
        return None
    if response.get("patchType") != "JSONPatch":
        raise InternalError(
            f'invalid response.patchType: "{response.get("patchType", "")}", expected "JSONPatch"'
        )
    try:
        return orjson.loads(base64.b64decode(response["patch"], validate=True))
    except (binascii.Error, orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise InternalError(f"response.patch cannot be read: {error}") from error


def denial(webhook: str, status: Object) -> ApiError:
    """The refusal of *webhook*, with the code and reason that its answer's *status* gives."""
    why = status.get("message") or status.get("reason")
    denied = f'admission webhook "{webhook}" denied the request'
    text = f"{denied}: {why}" if why else f"{denied} without explanation"
    code = status.get("code") or _REFUSED
    error = error_from_status({**status, "message": text, "code": code})
    details = error.details
    if error.code < _REFUSED or error.code != code:
        return BadRequest(text, causes=error.causes, details=details)
    return error
