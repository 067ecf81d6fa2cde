"""Resources that are not stored objects: reviews, tokens, and streams to and from Pods."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aiohttp import web

from sampan.apiserver import reviews
from sampan.apiserver.http import answers, queries
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.paths import Target
from sampan.apiserver.http.policies import Policies
from sampan.apiserver.http.portforward import PortForward
from sampan.apiserver.http.proxy import Proxy
from sampan.apiserver.http.restriction import NodeRestriction
from sampan.apiserver.http.stats import GROUP as METRICS
from sampan.apiserver.http.stats import NodeStats
from sampan.apiserver.http.streams import Streams
from sampan.apiserver.interface import Call, Place, Registry
from sampan.apiserver.reviews import Reviewer
from sampan.apiserver.tokens import Tokens

Serve = Callable[[Exchange, Target], Awaitable[web.StreamResponse]]

_CREATED: Final = 201
_CONNECTS: Final = frozenset({"exec", "attach", "portforward", "proxy"})


class Special:
    def __init__(
        self,
        registry: Registry,
        policies: Policies,
        restriction: NodeRestriction,
        tokens: Tokens,
        streams: Streams,
        portforward: PortForward,
        proxy: Proxy,
        stats: NodeStats,
    ) -> None:
        self._stats = stats
        self._registry = registry
        self._restriction = restriction
        self._policies = policies
        self._tokens = tokens
        self._by_subresource: dict[tuple[str, str], Serve] = {
            ("serviceaccounts", "token"): self._token,
            ("pods", "log"): streams.log,
            ("pods", "exec"): streams.channels,
            ("pods", "attach"): streams.channels,
            ("pods", "portforward"): portforward.serve,
            ("pods", "proxy"): proxy.serve,
            ("services", "proxy"): proxy.serve,
            ("nodes", "proxy"): stats.proxy,
        }

    def find(self, target: Target) -> Serve | None:
        """Return what serves *target*, None if it is an object like any other."""
        if target.kind.kind in reviews.KINDS and target.kind.group in reviews.GROUPS:
            return self._review
        if target.kind.group == METRICS:
            return self._stats.metrics
        if target.kind.group:
            return None
        serve = self._by_subresource.get((target.kind.plural, target.subresource))
        if serve and target.subresource in _CONNECTS:
            return partial(self._connect, serve)
        return serve

    async def _connect(
        self, serve: Serve, exchange: Exchange, target: Target
    ) -> web.StreamResponse:
        """Ask admission before the stream is opened."""
        place = Place(target.kind, target.namespace, target.name, target.subresource)
        options = queries.stream_options(exchange.query, target)
        await self._registry.connect(place, options, Call(user=exchange.user))
        return await serve(exchange, target)

    async def _review(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        reviewer = Reviewer(self._policies.current(), self._tokens)
        obj = await exchange.object()
        answer = await reviewer.review(exchange.user, target.kind.kind, target.namespace, obj)
        answer |= {"kind": target.kind.kind, "apiVersion": target.kind.api_version}
        return await answers.send_object(exchange, answer, status=_CREATED)

    async def _token(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        queries.call(exchange.query, exchange.user, exchange.agent)
        request = await exchange.object()
        await self._restriction.check_token(exchange.user, target.namespace, request)
        granted = await self._tokens.grant(target.namespace, target.name, request)
        return await answers.send_object(exchange, granted, status=_CREATED)
