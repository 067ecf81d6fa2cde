"""ServiceAccount tokens: JWTs that say which account, for whom, until when, bound to what.

A token is checked against the objects that it is bound to at every use, so deleting the Pod or the
ServiceAccount ends it at once. Source: Kubernetes documentation, "Managing Service Accounts".
"""

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from msgspec import Struct, ValidationError, convert, field

from sampan.api.errors import ApiError, BadRequest, Conflict, Invalid, NotFound, Unauthorized
from sampan.api.kinds import NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Kind
from sampan.api.objects import Object, View
from sampan.api.time import timestamp
from sampan.apiserver.identity import User
from sampan.apiserver.interface import Entry, Place

AUTHENTICATED: Final = "system:authenticated"
_ALGORITHM: Final = "ES256"
_SHORTEST: Final = 600
_LONGEST: Final = 1 << 32
_BINDABLE: Final = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}
_EXTRA: Final = "authentication.kubernetes.io/"


class Reader(Protocol):
    async def get(self, place: Place) -> Entry: ...


class _Bound(View):
    kind: str = ""
    api_version: str = ""
    name: str = ""
    uid: str = ""


class _Wish(View):
    audiences: list[str] = field(default_factory=list)
    expiration_seconds: int | None = None
    bound_object_ref: _Bound | None = None


class _Request(View):
    spec: _Wish = _Wish()


class _Ref(Struct, frozen=True):
    name: str = ""
    uid: str = ""


class _Kubernetes(Struct, frozen=True):
    namespace: str
    serviceaccount: _Ref
    pod: _Ref | None = None
    secret: _Ref | None = None
    node: _Ref | None = None


class _Claims(Struct, frozen=True):
    iss: str
    sub: str
    aud: list[str]
    exp: int
    jti: str = ""
    nbf: int = 0
    kubernetes: _Kubernetes | None = field(name="kubernetes.io", default=None)


class Verified(Struct, frozen=True):
    user: User
    audiences: list[str]


class Tokens:
    """Sign and check the tokens of one cluster, whose objects *reader* reads."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, issuer: str, reader: Reader) -> None:
        self._key = ECKey.import_key(key)
        self._public = ECKey.import_key(key.public_key())
        self._key_id = self._public.thumbprint()
        self._reader = reader
        self.issuer = issuer

    async def grant(self, namespace: str, name: str, request: Object) -> Object:
        """Answer a TokenRequest: the request with its token, for ServiceAccount *name*."""
        wish = _read(request).spec
        seconds = 3600 if wish.expiration_seconds is None else wish.expiration_seconds
        if not _SHORTEST <= seconds <= _LONGEST:
            raise Invalid(
                f"spec.expirationSeconds: Invalid value: {seconds}: "
                f"must be between {_SHORTEST} and {_LONGEST} seconds"
            )
        account = await self._metadata(SERVICE_ACCOUNTS, namespace, name)
        audiences = wish.audiences or [self.issuer]
        bound: dict[str, Any] = {"serviceaccount": {"name": name, "uid": account["uid"]}}
        if wish.bound_object_ref:
            bound |= await self._bind(namespace, name, wish.bound_object_ref)
        now = int(time.time())
        claims = {
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {"namespace": namespace, **bound},
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        token = jwt.encode({"alg": _ALGORITHM, "kid": self._key_id}, claims, self._key)
        return _granted(request, namespace, name, audiences, seconds, token, now + seconds)

    async def verify(self, token: str, audiences: Sequence[str] = ()) -> Verified:
        """Tell whose *token* it is; raise Unauthorized unless it is good for one of *audiences*.

        Without audiences it must be for this API server.
        """
        claims = self._claims(token)
        wanted = audiences or [self.issuer]
        shared = [audience for audience in claims.aud if audience in wanted]
        bound = claims.kubernetes
        now = time.time()
        if claims.iss != self.issuer or not shared or bound is None:
            raise Unauthorized("the token was not issued for this server")
        if not claims.nbf - 60 <= now < claims.exp:
            raise Unauthorized("the token has expired")
        await self._check(SERVICE_ACCOUNTS, bound.namespace, bound.serviceaccount)
        for kind, ref in ((PODS, bound.pod), (SECRETS, bound.secret)):
            if ref:
                await self._check(kind, bound.namespace, ref)
        if bound.node and not bound.pod:
            await self._check(NODES, "", bound.node)
        return Verified(_user(claims, bound), shared)

    def _claims(self, token: str) -> _Claims:
        try:
            decoded = jwt.decode(token, self._public, algorithms=[_ALGORITHM])
            return convert(decoded.claims, _Claims)
        except (JoseError, ValidationError, ValueError, TypeError) as error:
            raise Unauthorized("the token is not one of this cluster") from error

    async def _check(self, kind: Kind, namespace: str, ref: _Ref) -> None:
        try:
            metadata = await self._metadata(kind, namespace, ref.name)
        except ApiError as error:
            raise Unauthorized(f"the token's {kind.kind} {ref.name!r} is gone") from error
        if metadata["uid"] != ref.uid:
            raise Unauthorized(f"the token's {kind.kind} {ref.name!r} was replaced")

    async def _bind(self, namespace: str, account: str, ref: _Bound) -> dict[str, Any]:
        kind = _BINDABLE.get(ref.kind)
        if kind is None:
            raise Invalid("spec.boundObjectRef.kind: supported values: Pod, Secret, Node")
        place = namespace if kind.namespaced else ""
        entry = await self._reader.get(Place(kind, place, ref.name))
        uid = entry.object["metadata"]["uid"]
        if ref.uid and ref.uid != uid:
            raise Conflict(f"{kind.kind} {ref.name!r} has the UID {uid}, not {ref.uid}")
        bound = {kind.singular: {"name": ref.name, "uid": uid}}
        if kind is PODS:
            spec = entry.object["spec"]
            if spec.get("serviceAccountName", "default") != account:
                raise Invalid(
                    f"spec.boundObjectRef: Pod {ref.name!r} does not run as ServiceAccount "
                    f"{account!r}"
                )
            if node := spec.get("nodeName"):
                bound["node"] = await self._node(node)
        return bound

    async def _node(self, name: str) -> dict[str, str]:
        try:
            return {"name": name, "uid": (await self._metadata(NODES, "", name))["uid"]}
        except NotFound:
            return {"name": name}

    async def _metadata(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        entry = await self._reader.get(Place(kind, namespace, name))
        metadata: dict[str, Any] = entry.object["metadata"]
        return metadata

    def jwks(self) -> Object:
        """The public key, for others who check tokens."""
        key = self._public.as_dict(private=False)
        return {"keys": [{**key, "use": "sig", "kid": self._key_id, "alg": _ALGORITHM}]}

    def discovery(self) -> Object:
        """The OpenID provider document."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [_ALGORITHM],
        }


def service_account_groups(namespace: str) -> tuple[str, ...]:
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)


def _read(request: Object) -> _Request:
    try:
        return convert(request, _Request)
    except ValidationError as error:
        raise BadRequest(f"TokenRequest: {error}") from error


def _granted(
    request: Object,
    namespace: str,
    name: str,
    audiences: list[str],
    seconds: int,
    token: str,
    expires: int,
) -> Object:
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            **(request.get("spec") or {}),
            "audiences": audiences,
            "expirationSeconds": seconds,
        },
        "status": {
            "token": token,
            "expirationTimestamp": timestamp(datetime.fromtimestamp(expires, UTC)),
        },
    }


def _user(claims: _Claims, bound: _Kubernetes) -> User:
    extra = {f"{_EXTRA}credential-id": [f"JTI={claims.jti}"]} if claims.jti else {}
    for name, ref in (("pod", bound.pod), ("node", bound.node)):
        if ref:
            extra[f"{_EXTRA}{name}-name"] = [ref.name]
            extra[f"{_EXTRA}{name}-uid"] = [ref.uid]
    groups = service_account_groups(bound.namespace)
    return User(claims.sub, groups, bound.serviceaccount.uid, extra)
