"""What a request's query and DeleteOptions ask for, read strictly: nonsense is a 400, not a guess.

Source: Kubernetes API reference, "Common Parameters".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, cast, get_args
from urllib.parse import parse_qs

from msgspec import Struct, ValidationError, convert

from sampan.api.errors import BadRequest, Cause, Invalid
from sampan.api.objects import View
from sampan.apiserver.http.paths import Target
from sampan.apiserver.identity import User
from sampan.apiserver.interface import (
    Call,
    DeleteOptions,
    FieldValidation,
    ListOptions,
    Propagation,
    WatchOptions,
)

V = TypeVar("V", bound=Struct)

_FALSE: Final = frozenset({"false", "0"})
_MOST_FIELDS: Final = 2000
_LONGEST_MANAGER: Final = 128
_MATCHES: Final = ("", "Exact", "NotOlderThan")


class Query:
    """The parameters behind a URL's `?`."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self._values = values

    @classmethod
    def of(cls, raw: str) -> "Query":
        try:
            return cls(
                parse_qs(raw, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
            )
        except ValueError as error:
            raise BadRequest(f"the query cannot be read: {error}") from error

    def all(self, name: str) -> Sequence[str]:
        return self._values.get(name, ())

    def text(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    def flag(self, name: str) -> bool:
        """Read a boolean as Kubernetes does: whatever is there and not `false` or `0` is true."""
        values = self.all(name)
        return bool(values) and values[0].lower() not in _FALSE

    def number(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        try:
            value = int(text)
        except ValueError:
            raise BadRequest(f"{name}: {text!r} is not a whole number") from None
        if not 0 <= value < 1 << 63:
            raise BadRequest(f"{name}: must be between 0 and 9223372036854775807, not {text}")
        return value


def list_options(query: Query) -> ListOptions:
    match = query.text("resourceVersionMatch")
    revision = _revision(query)
    if match not in _MATCHES:
        raise _unsupported("ListOptions", "resourceVersionMatch", match, _MATCHES[1:])
    if match and not revision:
        raise BadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided")
    return ListOptions(
        labels=query.text("labelSelector"),
        fields=query.text("fieldSelector"),
        limit=query.number("limit") or None,
        continue_=query.text("continue"),
        revision=revision,
        match=cast("Literal['', 'Exact', 'NotOlderThan']", match),
    )


def watch_options(query: Query, *, name: str = "") -> WatchOptions:
    """Read a watch's parameters; with *name* only of the object called so."""
    fields = query.text("fieldSelector")
    if name:
        fields = ",".join(filter(None, (fields, f"metadata.name={name}")))
    return WatchOptions(
        since=_revision(query),
        labels=query.text("labelSelector"),
        fields=fields,
        bookmarks=query.flag("allowWatchBookmarks"),
        initial=query.flag("sendInitialEvents"),
    )


def _revision(query: Query) -> str:
    revision = query.text("resourceVersion")
    if revision and not (revision.isascii() and revision.isdigit() and len(revision) < 20):  # noqa: PLR2004 - 64 bits
        raise BadRequest(f"resourceVersion: {revision!r} is not one that this server gave out")
    return revision


def call(query: Query, user: User, agent: str, *, applying: bool = False) -> Call:
    """Read how to write; the field manager's default is the first word of the user *agent*."""
    manager = query.text("fieldManager")
    if len(manager) > _LONGEST_MANAGER or not manager.isprintable():
        raise BadRequest(f"fieldManager: at most {_LONGEST_MANAGER} printable characters")
    if applying and not manager:
        raise BadRequest("fieldManager is required for apply patch")
    validation = query.text("fieldValidation") or "Warn"
    if validation not in get_args(FieldValidation):
        raise _unsupported("Options", "fieldValidation", validation, get_args(FieldValidation))
    return Call(
        user=user,
        dry_run=_dry_run(query.all("dryRun")),
        manager=manager or manager_of(agent),
        force=query.flag("force"),
        validation=cast("FieldValidation", validation),
    )


def manager_of(agent: str) -> str:
    word = agent.partition("/")[0][:_LONGEST_MANAGER]
    return "".join(filter(str.isprintable, word)) or "unknown"


def _dry_run(values: Sequence[str]) -> bool:
    wrong = next((value for value in values if value != "All"), None)
    if wrong is not None:
        raise _unsupported("Options", "dryRun", wrong, ("All",))
    return bool(values)


class _Preconditions(View):
    uid: str | None = None
    resource_version: str | None = None


class _DeleteBody(View):
    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    preconditions: _Preconditions | None = None
    dry_run: list[str] | None = None


def delete_options(query: Query, body: Any) -> tuple[DeleteOptions, bool]:
    """Read the query and the DeleteOptions *body*, which wins; and whether it is a dry run."""
    asked = read(body or {}, _DeleteBody, "DeleteOptions")
    policy = asked.propagation_policy or query.text("propagationPolicy") or None
    if policy is not None and policy not in get_args(Propagation):
        raise _unsupported("DeleteOptions", "propagationPolicy", policy, get_args(Propagation))
    orphan = asked.orphan_dependents
    if orphan is None and query.all("orphanDependents"):
        orphan = query.flag("orphanDependents")
    if orphan is not None:
        if policy is not None:
            raise BadRequest("orphanDependents and propagationPolicy cannot be both set")
        policy = "Orphan" if orphan else "Background"
    grace = asked.grace_period_seconds
    required = asked.preconditions or _Preconditions()
    options = DeleteOptions(
        uid=required.uid or None,
        revision=required.resource_version or None,
        grace_seconds=query.number("gracePeriodSeconds") if grace is None else max(grace, 0),
        propagation=cast("Propagation | None", policy),
    )
    return options, _dry_run(asked.dry_run or query.all("dryRun"))


_STREAMS: Final = {
    "exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions",
    "proxy": "PodProxyOptions",
}  # fmt: skip


def stream_options(query: Query, target: Target) -> dict[str, Any]:
    """What a request for a stream asks for, as the object that admission looks at."""
    kind = _STREAMS[target.subresource]
    if target.kind.kind == "Service":
        kind = "ServiceProxyOptions"
    options: dict[str, Any] = {"kind": kind, "apiVersion": "v1"}
    if target.subresource in {"exec", "attach"}:
        options |= {name: True for name in ("stdin", "stdout", "stderr", "tty") if query.flag(name)}
        options |= {"container": name} if (name := query.text("container")) else {}
    if target.subresource == "exec":
        options["command"] = list(query.all("command"))
    return options


def read(body: Any, shape: type[V], what: str) -> V:
    """Read *body* as *shape*; raise BadRequest that says which of its fields is wrong."""
    try:
        return convert(body, shape, strict=True)
    except ValidationError as error:
        raise BadRequest(f"{what}: {error}") from error


def _unsupported(kind: str, field: str, value: str, supported: Sequence[str]) -> Invalid:
    listed = ", ".join(f'"{one}"' for one in supported)
    text = f'Unsupported value: "{value}": supported values: {listed}'
    return Invalid(
        f'{kind}.meta.k8s.io "" is invalid: {field}: {text}',
        causes=[Cause("FieldValueNotSupported", text, field)],
    )
