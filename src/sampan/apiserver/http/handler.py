"""A request from its first byte to its answer: who, what, may they, do it.

Whatever goes wrong becomes a Status: what the client did wrong with the code for it, what we did
wrong with 500 and a traceback in the log.
"""

import logging
import time
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from sampan.api.errors import (
    ApiError,
    BadRequest,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    NotFound,
)
from sampan.apiserver import discovery
from sampan.apiserver.authz import Attributes, refusal
from sampan.apiserver.http import answers, paths
from sampan.apiserver.http.authn import Authenticator
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.info import Info
from sampan.apiserver.http.joining import Joining
from sampan.apiserver.http.metrics import Counted, Metrics
from sampan.apiserver.http.nodes import Nodes
from sampan.apiserver.http.paths import FindKind, Target
from sampan.apiserver.http.policies import Policies
from sampan.apiserver.http.queries import Query
from sampan.apiserver.http.resources import Resources
from sampan.apiserver.http.restriction import NodeRestriction
from sampan.apiserver.http.special import Special
from sampan.apiserver.identity import ANONYMOUS, User

_OF_COLLECTIONS: Final = frozenset({"create", "deletecollection", "list", "watch"})
_CONNECT: Final = frozenset({"exec", "attach", "portforward"})

log = logging.getLogger(__name__)


@dataclass
class _Counting:
    """What a request turns out to be about, once that is known."""

    what: Counted


class Handler:
    def __init__(
        self,
        *,
        authenticator: Authenticator,
        policies: Policies,
        restriction: NodeRestriction,
        resources: Resources,
        special: Special,
        nodes: Nodes,
        joining: Joining,
        info: Info,
        metrics: Metrics,
        find: FindKind,
    ) -> None:
        self._find = find
        self._authenticator = authenticator
        self._policies = policies
        self._restriction = restriction
        self._resources = resources
        self._special = special
        self._nodes = nodes
        self._joining = joining
        self._info = info
        self._metrics = metrics

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        begun = time.monotonic()
        counted = _Counting(Counted(request.method.lower()[:10]))
        response: web.StreamResponse
        try:
            response = await self._answer(request, counted)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            response = _refused(request, single(error))
        if request.writer.output_size and not response.prepared and request.transport:
            # Half an answer is out already: breaking the connection is the only way to say so.
            request.transport.abort()
            raise ConnectionResetError
        self._metrics.count(counted.what, response.status, time.monotonic() - begun)
        return response

    async def _answer(self, request: web.BaseRequest, counted: "_Counting") -> web.StreamResponse:
        raw, _, raw_query = request.raw_path.partition("?")
        if not raw.startswith("/"):
            raise BadRequest("the request's path must start with a slash")
        parts = paths.segments(raw)
        query = Query.of(raw_query)
        if parts[:2] == ["sampan", "v1"] and parts[2:] in (["ca"], ["join"]):
            return await self._joining.serve(Exchange(request, parts, query, ANONYMOUS))
        exchange = Exchange(request, parts, query, await self._authenticator.user(request))
        try:
            target = paths.parse(parts, self._find)
        except NotFound:
            self._authorize(exchange.user, self._about_path(exchange))
            raise
        if target is None:
            return await self._serve_path(exchange)
        return await self._serve_resource(exchange, target, counted)

    async def _serve_path(self, exchange: Exchange) -> web.StreamResponse:
        self._authorize(exchange.user, self._about_path(exchange))
        if exchange.parts[:2] == ["sampan", "v1"]:
            return await self._nodes.serve(exchange)
        return await self._info.serve(exchange)

    async def _serve_resource(
        self, exchange: Exchange, target: Target, counted: "_Counting"
    ) -> web.StreamResponse:
        verb = paths.verb(exchange.request.method, target, watching=exchange.query.flag("watch"))
        _check_method(verb, target)
        if target.subresource in _CONNECT:
            verb = "create"  # to run something in a Pod is no reading, whatever the method
        counted.what = Counted(verb, target.kind.group, target.kind.plural, target.subresource)
        self._authorize(exchange.user, target.asked(verb))
        await self._restriction.check(exchange.user, target, verb)
        special = self._special.find(target)
        if special:
            return await special(exchange, target)
        return await self._resources.serve(exchange, target, verb)

    def _about_path(self, exchange: Exchange) -> Attributes:
        return Attributes(exchange.request.method.lower(), path=exchange.path)

    def _authorize(self, user: User, asked: Attributes) -> None:
        if self._policies.current().allows(user, asked) is None:
            raise _forbidden(user, asked)


def _refused(request: web.BaseRequest, error: Exception) -> web.Response:
    """Make the answer that *error* is; a client that is gone gets none, and raises."""
    if isinstance(error, ConnectionError):
        raise error
    if isinstance(error, ApiError):
        return answers.refuse(error)
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    name = type(error).__name__
    return answers.refuse(InternalError(f"Internal error occurred: {name}, see the server's log"))


def single(error: Exception) -> Exception:
    """Take out of its groups what went wrong first: TaskGroups wrap every error."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _check_method(verb: str, target: Target) -> None:
    if target.subresource:
        served = discovery.subresource(target.kind, target.subresource)[1]
    elif target.name:
        served = [v for v in target.kind.verbs if v not in _OF_COLLECTIONS or v == "watch"]
    else:
        served = [v for v in target.kind.verbs if v in _OF_COLLECTIONS]
    if verb not in served:
        raise MethodNotAllowed("the server does not allow this method on the requested resource")


def _forbidden(user: User, asked: Attributes) -> Forbidden:
    why = refusal(user, asked)
    if asked.path:
        return Forbidden(f"forbidden: {why}")
    resource = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    subject = f'{resource} "{asked.name}"' if asked.name else resource
    details = {"name": asked.name, "group": asked.group, "kind": asked.resource}
    return Forbidden(
        f"{subject} is forbidden: {why}", details={k: v for k, v in details.items() if v}
    )
