"""Certify the approved signing requests of Kubernetes' own signers, and remove old requests."""

import base64
import binascii
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from msgspec import field

from sampan.api.errors import ApiError, BadRequest
from sampan.api.kinds import BY_GVK
from sampan.api.objects import Condition, Resource, View, is_true
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Delete,
    Patch,
    World,
    for_each,
    itself,
)
from sampan.controllers.status import raw_condition, with_condition
from sampan.controllers.views import seconds

SIGNERS: Final = frozenset({
    "kubernetes.io/kube-apiserver-client",
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/kubelet-serving",
})  # fmt: skip
ANSWERED_KEPT: Final = timedelta(hours=1)
PENDING_KEPT: Final = timedelta(hours=24)

Sign: TypeAlias = Callable[[str, str, int | None], bytes]
"""Takes the signer's name, the request as PEM and a life in seconds; raises an ApiError."""


class RequestSpec(View):
    request: str = ""
    signer_name: str = ""
    expiration_seconds: int | None = None


class RequestStatus(View):
    certificate: str = ""
    conditions: list[Condition] = field(default_factory=list)


class SigningRequest(Resource):
    KIND = BY_GVK["certificates.k8s.io/v1", "CertificateSigningRequest"]
    spec: RequestSpec = RequestSpec()
    status: RequestStatus = RequestStatus()


def no_key(_signer: str, _pem: str, _seconds: int | None) -> bytes:
    raise BadRequest("this control plane has no key to sign with")


def reconcile(sign: Sign, request: SigningRequest, world: World) -> Iterator[Action]:
    conditions = request.status.conditions
    answered = bool(request.status.certificate) or any(
        is_true(conditions, type_) for type_ in ("Denied", "Failed")
    )
    yield from _aged(request, world.now, ANSWERED_KEPT if answered else PENDING_KEPT)
    if answered or request.spec.signer_name not in SIGNERS or not is_true(conditions, "Approved"):
        return
    try:
        pem = base64.b64decode(request.spec.request, validate=True).decode()
        made = sign(request.spec.signer_name, pem, request.spec.expiration_seconds)
    except (ApiError, binascii.Error, UnicodeDecodeError) as error:
        at = seconds(world.now)
        failed = Condition(
            "Failed", "True", "SignerValidationFailure", str(error),
            last_transition_time=at, last_update_time=at,
        )  # fmt: skip
        told = [raw_condition(c) for c in with_condition(conditions, failed)]
        yield Patch(request, {"status": {"conditions": told}}, subresource="status")
    else:
        certificate = {"certificate": base64.b64encode(made).decode()}
        yield Patch(request, {"status": certificate}, subresource="status")


def _aged(request: SigningRequest, now: datetime, kept: timedelta) -> Iterator[Action]:
    since = [c.last_update_time for c in request.status.conditions if c.last_update_time]
    begun = max(since, default=request.metadata.creation_timestamp or now)
    left = begun + kept - now
    if left > timedelta():
        yield CheckAgain(left.total_seconds() + 1)
    else:
        yield Delete(request)


def controller(sign: Sign) -> Controller:
    return Controller(
        "certificate-controller",
        {SigningRequest: itself},
        for_each(SigningRequest, lambda request, world: reconcile(sign, request, world)),
        workers=1,
    )
