"""What nodes and Pods use: `metrics.k8s.io`, and what a kubelet would show under `nodes/proxy`.

Nothing is stored. Each question goes down the tunnels of the nodes that it is about, all at once;
a node that does not answer is left out, as one whose readings are missing.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from aiohttp import web

from sampan.api import kinds
from sampan.api.errors import ApiError, NotFound, ServiceUnavailable
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.api.selectors import parse_label_selector
from sampan.api.time import parse_time, timestamp
from sampan.apiserver.http import answers
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.paths import Target
from sampan.apiserver.interface import Kinds, ListOptions, Place, Registry
from sampan.apiserver.tunnel import Tunnels

GROUP: Final = "metrics.k8s.io"
WINDOW: Final = "15s"
_READ: Final = ("get", "list")
NODE_METRICS: Final = Kind(GROUP, "v1beta1", "NodeMetrics", "nodes", namespaced=False, verbs=_READ)
POD_METRICS: Final = Kind(GROUP, "v1beta1", "PodMetrics", "pods", verbs=_READ)
KINDS: Final = (NODE_METRICS, POD_METRICS)
_ANSWERS_WITHIN: Final = 5.0


class WithMetrics:
    """The kinds that *stored* has, and those that are asked of the nodes."""

    def __init__(self, stored: Kinds) -> None:
        self._stored = stored

    @property
    def edition(self) -> int:
        return self._stored.edition

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (*self._stored.kinds, *KINDS)

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        if group == GROUP:
            mine = (k for k in KINDS if (k.version, k.plural) == (version, plural))
            return next(mine, None)
        return self._stored.find(group, version, plural)


class NodeStats:
    def __init__(self, registry: Registry, tunnels: Tunnels) -> None:
        self._registry = registry
        self._tunnels = tunnels

    async def metrics(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        """Serve `metrics.k8s.io`: one object, or a list."""
        if target.kind is NODE_METRICS:
            found = await self._of_nodes(exchange, target)
        else:
            found = await self._of_pods(exchange, target)
        if target.name:
            if not found:
                raise NotFound(f'{target.kind.resource} "{target.name}" not found')
            return await answers.send_object(exchange, found[0])
        listed = {
            "kind": target.kind.list_kind,
            "apiVersion": target.kind.api_version,
            "metadata": {},
            "items": found,
        }
        return await answers.send_object(exchange, listed)

    async def proxy(self, _exchange: Exchange, target: Target) -> web.StreamResponse:
        """Serve what monitoring reads of a kubelet."""
        await self._registry.get(Place(kinds.NODES, "", target.name))
        match target.rest.strip("/"):
            case "healthz":
                await self._ask(target.name, "summary")
                return web.Response(text="ok")
            case "stats/summary":
                text = await self._ask(target.name, "summary")
                return web.Response(text=text, content_type="application/json")
            case "metrics/resource":
                text = await self._ask(target.name, "resource")
                return web.Response(text=text, content_type="text/plain")
        raise NotFound("a node answers stats/summary, metrics/resource and healthz")

    async def _of_nodes(self, exchange: Exchange, target: Target) -> list[Object]:
        nodes = await self._objects(exchange, Place(kinds.NODES, "", target.name))
        names = [node["metadata"]["name"] for node in nodes]
        summaries = await self._summaries(names)
        made = []
        for node, summary in zip(nodes, summaries, strict=True):
            if summary:
                meta = _metadata(node)
                usage = _usage([summary["node"]])
                made.append({**_head(NODE_METRICS, meta, summary["node"]), "usage": usage})
        return made

    async def _of_pods(self, exchange: Exchange, target: Target) -> list[Object]:
        place = Place(kinds.PODS, target.namespace, target.name)
        return await self._metered(await self._objects(exchange, place))

    async def pods(self) -> list[Object]:
        """What every Pod uses, as PodMetrics."""
        page = await self._registry.list(Place(kinds.PODS), ListOptions())
        return await self._metered([entry.object for entry in page.items])

    async def _metered(self, pods: Sequence[Object]) -> list[Object]:
        by_uid = {pod["metadata"]["uid"]: pod for pod in pods}
        nodes = {node for pod in pods if (node := pod["spec"].get("nodeName"))}
        found = await self._summaries(sorted(nodes))
        used = {
            entry["podRef"]["uid"]: entry
            for summary in found
            if summary
            for entry in summary["pods"]
        }
        return [_pod_metrics(pod, used[uid]) for uid, pod in by_uid.items() if _counts(used, uid)]

    async def _objects(self, exchange: Exchange, place: Place) -> list[Object]:
        """The Nodes or Pods that are asked about."""
        if place.name:
            return [(await self._registry.get(place)).object]
        page = await self._registry.list(place, ListOptions())
        selector = parse_label_selector(exchange.query.text("labelSelector"))
        objects = (entry.object for entry in page.items)
        return [obj for obj in objects if selector.matches(obj["metadata"].get("labels") or {})]

    async def _summaries(self, nodes: Sequence[str]) -> list[Object | None]:
        return await asyncio.gather(*map(self._summary, nodes))

    async def _summary(self, node: str) -> Object | None:
        try:
            return dict(orjson.loads(await self._ask(node, "summary")))
        except (ApiError, TimeoutError, ConnectionError):
            return None

    async def _ask(self, node: str, form: str) -> str:
        async with (
            asyncio.timeout(_ANSWERS_WITHIN),
            self._tunnels.stream(node, "stats", {"form": form}) as agent,
        ):
            frame = await agent.receive()
        if not isinstance(frame, str):
            raise ServiceUnavailable(f"node {node} hung up before it had answered")
        return frame


def _counts(used: dict[str, Object], uid: str) -> bool:
    return uid in used and bool(used[uid]["containers"])


def _pod_metrics(pod: Object, used: Object) -> Object:
    containers = [{"name": c["name"], "usage": _usage([c])} for c in used["containers"]]
    return {**_head(POD_METRICS, _metadata(pod), used), "containers": containers}


def _metadata(obj: Object) -> Object:
    meta = obj["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "labels") if key in meta}
    return {**kept, "creationTimestamp": timestamp(datetime.now(UTC))}


def _head(kind: Kind, meta: Object, used: Object) -> Object:
    at = used["cpu"]["time"]
    begun = used.get("startTime")
    window = WINDOW
    if begun and parse_time(at) - parse_time(begun) < timedelta(seconds=15):
        window = f"{max((parse_time(at) - parse_time(begun)).seconds, 1)}s"
    return {
        "kind": kind.kind,
        "apiVersion": kind.api_version,
        "metadata": meta,
        "timestamp": at,
        "window": window,
    }


def _usage(used: Sequence[Any]) -> Object:
    cores = sum(_amounts(used, "cpu", "usageNanoCores"))
    memory = sum(_amounts(used, "memory", "workingSetBytes"))
    return {"cpu": f"{cores}n", "memory": f"{memory >> 10}Ki"}


def _amounts(used: Sequence[Any], group: str, name: str) -> Iterator[int]:
    return (int(each[group][name]) for each in used)
