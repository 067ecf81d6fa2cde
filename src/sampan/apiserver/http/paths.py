"""What a URL path means: Kubernetes paths are regular enough to be read, not routed.

`/apis/GROUP/VERSION[/namespaces/NS]/PLURAL[/NAME[/SUBRESOURCE[/REST…]]]`, and `/api/VERSION/…` for
the core group.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

from sampan.api.errors import BadRequest, NotFound
from sampan.api.kinds import BY_RESOURCE, Kind
from sampan.apiserver.authz import Attributes

FindKind = Callable[[str, str, str], Kind | None]
PROXIED: Final = frozenset({"exec", "attach", "portforward", "proxy"})
_PLAIN: Final = re.compile(r"(?:/(?!\.)[A-Za-z0-9._:-]+)+").fullmatch
"""Without escapes or dots to begin with, as nearly every path is."""
_BY_METHOD: Final = {
    "GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch",
    "DELETE": "delete", "OPTIONS": "options",
}  # fmt: skip


class Target(Struct, frozen=True):
    """The resource that a path names: a collection without *name*."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""

    def asked(self, verb: str) -> Attributes:
        """What the authorizer is asked about doing *verb* here."""
        return Attributes(
            verb=verb,
            group=self.kind.group,
            resource=self.kind.plural,
            subresource=self.subresource,
            namespace=self.namespace,
            name=self.name,
        )


def built_in(group: str, version: str, plural: str) -> Kind | None:
    return BY_RESOURCE.get((group, version, plural))


def segments(raw_path: str) -> list[str]:
    """Split an encoded path; what an escape hides inside a segment does not become structure."""
    if _PLAIN(raw_path):
        return raw_path.strip("/").split("/")
    parts = [unquote(part, errors="surrogateescape") for part in raw_path.strip("/").split("/")]
    for part in parts:
        if part in {".", ".."} or any(character in part for character in "/%\0"):
            raise BadRequest(f"the path segment {part!r} cannot name anything: remove the escapes")
        if not part.isprintable():
            raise BadRequest("the path holds bytes that are not printable UTF-8")
    return parts


def parse(parts: Sequence[str], find: FindKind = built_in) -> Target | None:
    """Read a resource path; None if it is not one. Raise NotFound for an unknown resource."""
    match parts:
        case ["api", version, *rest] if rest:
            return _target("", version, rest, find)
        case ["apis", group, version, *rest] if rest:
            return _target(group, version, rest, find)
    return None


def _target(group: str, version: str, rest: list[str], find: FindKind) -> Target | None:
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (group or not _of_namespace(rest)):  # noqa: PLR2004 - namespaces/NS/PLURAL
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource, *tail = (*rest, "", "", "")[: max(3, len(rest))]
    kind = find(group, version, plural)
    if kind is None or (namespace and not kind.namespaced):
        raise NotFound("the server could not find the requested resource")
    if name and kind.namespaced and not namespace:
        raise NotFound("the server could not find the requested resource")
    if subresource and subresource not in kind.subresources:
        raise NotFound("the server could not find the requested resource")
    if tail and subresource != "proxy":
        raise NotFound("the server could not find the requested resource")
    if plural == "namespaces" and not group:
        namespace = name
    return Target(kind, namespace, name, subresource, "/".join(tail))


def _of_namespace(rest: list[str]) -> bool:
    return rest[2] in {"status", "finalize"} and len(rest) == 3  # noqa: PLR2004 - namespaces/NS/status


def verb(method: str, target: Target, *, watching: bool) -> str:
    """The Kubernetes verb of a request, such as `list` or `deletecollection`."""
    plain = _BY_METHOD.get(method, method.lower())
    if plain == "options" and target.subresource == "proxy":
        return "get"  # it is meant for what is behind the proxy, and reads
    if target.name:
        return "watch" if plain == "get" and watching and not target.subresource else plain
    if plain == "get":
        return "watch" if watching else "list"
    return "deletecollection" if plain == "delete" else plain
