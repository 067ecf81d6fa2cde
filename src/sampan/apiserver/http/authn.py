"""Who asks: a client certificate, a ServiceAccount's token, or nobody in particular.

A client that may impersonate asks as somebody else by headers, which is checked against RBAC like
any other request.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from sampan.api.errors import BadRequest, Forbidden, Unauthorized
from sampan.apiserver.authz import Attributes, Policy, refusal
from sampan.apiserver.identity import ANONYMOUS, User
from sampan.apiserver.tokens import AUTHENTICATED, Tokens, service_account_groups

_EXTRA: Final = "Impersonate-Extra-"
_AUTHN: Final = "authentication.k8s.io"


class Authenticator:
    def __init__(self, tokens: Tokens, policy: Callable[[], Policy]) -> None:
        self._tokens = tokens
        self._policy = policy

    async def user(self, request: web.BaseRequest) -> User:
        """Tell who sent *request*; raise Unauthorized for a bad token, Forbidden for a bad mask."""
        user = await self._own_identity(request)
        if any(name.startswith("Impersonate-") for name in request.headers):
            return impersonated(user, request.headers, self._policy())
        return user

    async def _own_identity(self, request: web.BaseRequest) -> User:
        transport = request.transport
        peer = transport.get_extra_info("peercert") if transport else None
        if peer:
            return certified(peer)
        header = request.headers.get("Authorization", "")
        if not header:
            return ANONYMOUS
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("Unauthorized")
        try:
            return (await self._tokens.verify(token.strip())).user
        except Unauthorized as error:
            raise Unauthorized("Unauthorized") from error


def certified(peer: Mapping[str, Any]) -> User:
    """Read the subject of a verified client certificate: CN is the user, each O a group."""
    subject = [pair for names in peer.get("subject", ()) for pair in names]
    name = next((value for key, value in subject if key == "commonName"), "")
    groups = tuple(value for key, value in subject if key == "organizationName")
    if not name:
        raise Unauthorized("the client certificate names nobody: its subject needs a CN")
    return User(name, (*groups, AUTHENTICATED))


def impersonated(user: User, headers: Mapping[str, str], policy: Policy) -> User:
    """Return whom the headers name, if *user* may act for them; raise Forbidden if not."""
    pairs = [(name.lower(), value) for name, value in headers.items()]
    names = [value for name, value in pairs if name == "impersonate-user"]
    uid = next((value for name, value in pairs if name == "impersonate-uid"), "")
    groups = [value for name, value in pairs if name == "impersonate-group"]
    extra: dict[str, list[str]] = {}
    for name, value in pairs:
        if name.startswith(_EXTRA.lower()):
            extra.setdefault(unquote(name[len(_EXTRA) :]), []).append(value)
    if len(names) != 1 or not names[0]:
        raise BadRequest("impersonation needs one Impersonate-User header beside the others")
    for asked in _asked(names[0], uid, groups, extra):
        if policy.allows(user, asked) is None:
            raise Forbidden(
                f"{asked.full_resource} {asked.name!r} is forbidden: {refusal(user, asked)}"
            )
    return User(names[0], _groups(names[0], groups), uid, extra)


def _asked(
    name: str, uid: str, groups: Iterable[str], extra: Mapping[str, Iterable[str]]
) -> Iterable[Attributes]:
    if account := _account(name):
        namespace, own = account
        yield Attributes("impersonate", "", "serviceaccounts", "", namespace, own)
    else:
        yield Attributes("impersonate", "", "users", name=name)
    for group in groups:
        yield Attributes("impersonate", "", "groups", name=group)
    if uid:
        yield Attributes("impersonate", _AUTHN, "uids", name=uid)
    for key, values in extra.items():
        for value in values:
            yield Attributes("impersonate", _AUTHN, "userextras", key, name=value)


def _groups(name: str, asked: list[str]) -> tuple[str, ...]:
    groups = list(asked)
    if not groups and (account := _account(name)):
        groups += service_account_groups(account[0])
    if name == ANONYMOUS.name:
        return tuple(dict.fromkeys([*groups, *ANONYMOUS.groups]))
    return tuple(dict.fromkeys([*groups, AUTHENTICATED]))


def _account(name: str) -> tuple[str, str] | None:
    match name.split(":"):
        case ["system", "serviceaccount", namespace, own] if namespace and own:
            return namespace, own
    return None
