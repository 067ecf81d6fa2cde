"""Questions about identity and permission that are asked by creating an object that nobody keeps.

Source: Kubernetes API reference, groups `authentication.k8s.io` and `authorization.k8s.io`.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct, ValidationError, convert, field

from sampan.api.errors import BadRequest, Invalid, Unauthorized
from sampan.api.objects import Object, View
from sampan.apiserver.authz import Attributes, Policy, Rule
from sampan.apiserver.identity import User
from sampan.apiserver.tokens import Tokens

V = TypeVar("V", bound=Struct)

GROUPS: Final = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
KINDS: Final = frozenset({
    "LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectReview",
    "SelfSubjectRulesReview", "SubjectAccessReview", "TokenReview",
})  # fmt: skip


class _OnResource(View):
    namespace: str = ""
    verb: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""


class _OnPath(View):
    path: str = ""
    verb: str = ""


class _AccessSpec(View):
    resource_attributes: _OnResource | None = None
    non_resource_attributes: _OnPath | None = None
    user: str = ""
    groups: list[str] = field(default_factory=list)
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)


class _RulesSpec(View):
    namespace: str = ""


class _TokenSpec(View):
    token: str = ""
    audiences: list[str] = field(default_factory=list)


class Reviewer(Struct, frozen=True):
    policy: Policy
    tokens: Tokens

    async def review(self, user: User, kind: str, namespace: str, obj: Object) -> Object:
        """Return *obj* with the answer to what it asks as its status."""
        spec = obj.get("spec") or {}
        match kind:
            case "SelfSubjectReview":
                status: Object = {"userInfo": user_info(user)}
            case "TokenReview":
                status = await self._token(_read(spec, _TokenSpec))
            case "SelfSubjectRulesReview":
                asked = _read(spec, _RulesSpec)
                status = rules_status(self.policy.rules(user, asked.namespace))
            case "SelfSubjectAccessReview":
                status = access_status(self.policy, user, _read(spec, _AccessSpec))
            case _:
                status = self._subject(kind, namespace, _read(spec, _AccessSpec))
        return {**obj, "metadata": obj.get("metadata") or {}, "status": status}

    def _subject(self, kind: str, namespace: str, spec: _AccessSpec) -> Object:
        if not spec.user and not spec.groups:
            raise Invalid(
                "spec.user: Required value: at least one of user or group must be specified"
            )
        asked = spec.resource_attributes
        if kind == "LocalSubjectAccessReview" and (asked is None or asked.namespace != namespace):
            raise Invalid(
                "spec.resourceAttributes.namespace: Invalid value: must be "
                f"{namespace!r} as in the path"
            )
        user = User(spec.user, tuple(spec.groups), spec.uid, spec.extra)
        return access_status(self.policy, user, spec)

    async def _token(self, spec: _TokenSpec) -> Object:
        if not spec.token:
            raise BadRequest("token is required for TokenReview in authentication")
        try:
            verified = await self.tokens.verify(spec.token, spec.audiences)
        except Unauthorized as error:
            return {"authenticated": False, "error": error.message}
        return {
            "authenticated": True,
            "user": user_info(verified.user),
            "audiences": verified.audiences,
        }


def user_info(user: User) -> Object:
    info: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = user.extra
    return info


def access_status(policy: Policy, user: User, spec: _AccessSpec) -> Object:
    reason = policy.allows(user, _attributes(spec))
    if reason is None:
        return {"allowed": False}
    return {"allowed": True, "reason": reason} if reason else {"allowed": True}


def _attributes(spec: _AccessSpec) -> Attributes:
    match spec.resource_attributes, spec.non_resource_attributes:
        case _OnResource() as asked, None:
            return Attributes(
                asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace,
                asked.name,
            )  # fmt: skip
        case None, _OnPath() as asked:
            return Attributes(asked.verb, path=asked.path or "/")
    raise Invalid(
        "spec: Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be "
        "specified"
    )


def rules_status(rules: Sequence[Rule]) -> Object:
    return {
        "resourceRules": [
            {
                "verbs": sorted(rule.verbs),
                "apiGroups": sorted(rule.groups),
                "resources": sorted(rule.resources),
                **({"resourceNames": sorted(rule.names)} if rule.names else {}),
            }
            for rule in rules
            if not rule.paths
        ],
        "nonResourceRules": [
            {"verbs": sorted(rule.verbs), "nonResourceURLs": list(rule.paths)}
            for rule in rules
            if rule.paths
        ],
        "incomplete": False,
    }


def _read(spec: Any, shape: type[V]) -> V:
    try:
        return convert(spec, shape)
    except ValidationError as error:
        raise BadRequest(f"spec: {error}") from error
