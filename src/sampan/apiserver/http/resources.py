"""The verbs of resources: a request's parameters in, the registry asked, its bytes out."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from msgspec import structs

from sampan.api.errors import BadRequest, UnsupportedMediaType
from sampan.api.kinds import BINDINGS, PODS
from sampan.apiserver.authz import Policy
from sampan.apiserver.http import answers, escalation, forms, negotiate, queries
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.finishing import Finisher
from sampan.apiserver.http.paths import Target
from sampan.apiserver.http.watches import Watches
from sampan.apiserver.interface import Call, Entry, Place, Registry, Written
from sampan.client.interface import PatchType

Serve = Callable[[Exchange, Place], Awaitable[web.StreamResponse]]

Attempt = Callable[[Call], Awaitable[Entry | Written]]

_INCLUDES: Final = frozenset({"None", "Metadata", "Object"})


class Resources:
    def __init__(
        self,
        registry: Registry,
        watches: Watches,
        policy: Callable[[], Policy],
        finisher: Finisher,
    ) -> None:
        self._finish = finisher.finish
        self._registry = registry
        self._policy = policy
        self._watches = watches
        self._verbs: Mapping[str, Serve] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    async def serve(self, exchange: Exchange, target: Target, verb: str) -> web.StreamResponse:
        """Do *verb*, which is one that the target's kind has, for a user who may."""
        place = Place(target.kind, target.namespace, target.name, target.subresource)
        return await self._verbs[verb](exchange, place)

    async def _get(self, exchange: Exchange, place: Place) -> web.Response:
        accepted, include = exchange.accepted, _include(exchange)
        entry = await self._registry.get(place)
        return await answers.send(exchange, forms.one(place.kind, entry, accepted, _now(), include))

    async def _list(self, exchange: Exchange, place: Place) -> web.Response:
        accepted, include = exchange.accepted, _include(exchange)
        page = await self._registry.list(place, queries.list_options(exchange.query))
        return await answers.send(exchange, forms.page(place.kind, page, accepted, _now(), include))

    async def _watch(self, exchange: Exchange, place: Place) -> web.StreamResponse:
        options = queries.watch_options(exchange.query, name=place.name)
        form = forms.EventForm(place.kind, exchange.accepted, _include(exchange))
        collection = Place(place.kind, place.namespace)
        return await self._watches.serve(exchange, self._registry.watch(collection, options), form)

    async def _create(self, exchange: Exchange, place: Place) -> web.Response:
        accepted = exchange.accepted
        call = queries.call(exchange.query, exchange.user, exchange.agent)
        obj = await exchange.object()
        if place.kind == BINDINGS:  # the older way to post a Pod's binding
            name = str(_mapping(obj.get("metadata")).get("name", ""))
            place = Place(PODS, place.namespace, name, "binding")
        await self._check_grants(
            exchange, place, call, lambda trial: self._registry.create(place, obj, trial)
        )
        entry = await self._finish(self._registry.create(place, obj, call))
        body = forms.one(place.kind, entry, accepted, _now(), "Object")
        return await answers.send(exchange, body, status=201, warnings=call.warnings)

    async def _update(self, exchange: Exchange, place: Place) -> web.Response:
        accepted = exchange.accepted
        call = queries.call(exchange.query, exchange.user, exchange.agent)
        obj = await exchange.object()
        await self._check_grants(
            exchange, place, call, lambda trial: self._registry.update(place, obj, trial)
        )
        written = await self._finish(self._registry.update(place, obj, call))
        body = forms.one(place.kind, written.entry, accepted, _now(), "Object")
        status = 201 if written.created else 200
        return await answers.send(exchange, body, status=status, warnings=call.warnings)

    async def _patch(self, exchange: Exchange, place: Place) -> web.Response:
        accepted = exchange.accepted
        how = _patch_type(exchange.content_type)
        applying = how is PatchType.APPLY
        call = queries.call(exchange.query, exchange.user, exchange.agent, applying=applying)
        patch = await exchange.decoded()
        await self._check_grants(
            exchange, place, call, lambda trial: self._registry.patch(place, patch, how, trial)
        )
        written = await self._finish(self._registry.patch(place, patch, how, call))
        shown = forms.one(place.kind, written.entry, accepted, _now(), "Object")
        status = 201 if written.created else 200
        return await answers.send(exchange, shown, status=status, warnings=call.warnings)

    async def _check_grants(
        self, exchange: Exchange, place: Place, call: Call, attempt: Attempt
    ) -> None:
        """Raise Forbidden if a write would give away more than its writer holds.

        What it would store is seen by attempting it as a dry run first.
        """
        if escalation.concerns(place.kind, exchange.user):
            outcome = await attempt(structs.replace(call, dry_run=True, warnings=[]))
            entry = outcome.entry if isinstance(outcome, Written) else outcome
            escalation.check(self._policy(), exchange.user, place.kind, entry.object)

    async def _delete(self, exchange: Exchange, place: Place) -> web.Response:
        options, dry = queries.delete_options(exchange.query, await _optional(exchange))
        call = queries.call(exchange.query, exchange.user, exchange.agent)
        result = await self._finish(self._registry.delete(place, options, _dry(call, dry=dry)))
        return await answers.send_object(exchange, result, warnings=call.warnings)

    async def _delete_collection(self, exchange: Exchange, place: Place) -> web.Response:
        options, dry = queries.delete_options(exchange.query, await _optional(exchange))
        call = queries.call(exchange.query, exchange.user, exchange.agent)
        which = queries.list_options(exchange.query)
        page = await self._finish(
            self._registry.delete_collection(place, which, options, _dry(call, dry=dry))
        )
        return await answers.send(exchange, forms.listed(place.kind, page), warnings=call.warnings)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dry(call: Call, *, dry: bool) -> Call:
    return call if call.dry_run == dry else structs.replace(call, dry_run=dry)


async def _optional(exchange: Exchange) -> Any:
    body = await exchange.body()
    return negotiate.as_object(negotiate.decode(body, exchange.content_type)) if body else None


def _patch_type(content_type: str) -> PatchType:
    media = negotiate.media_type(content_type)
    try:
        return PatchType(media)
    except ValueError:
        listed = ", ".join(PatchType)
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: "
            f"{listed} (got {media!r})"
        ) from None


def _include(exchange: Exchange) -> str:
    include = exchange.query.text("includeObject") or "Metadata"
    if include not in _INCLUDES:
        raise BadRequest(f"includeObject: {include!r} is none of None, Metadata and Object")
    return include


def _now() -> datetime:
    return datetime.now(UTC)
