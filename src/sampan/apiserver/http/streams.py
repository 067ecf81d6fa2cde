"""`pods/log`, `exec`, `attach` and `portforward`: from the client to the Pod's node and back.

The server checks what it can know and passes frames on; what the node's agent refuses becomes the
HTTP answer, because the client is told nothing before the agent has agreed.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

import orjson
from aiohttp import web

from sampan.api.errors import BadRequest, InternalError
from sampan.api.objects import Object
from sampan.api.time import parse_time
from sampan.apiserver.http import sockets, upgrade
from sampan.apiserver.http.channels import SpdyChannels
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.paths import Target
from sampan.apiserver.http.queries import Query
from sampan.apiserver.interface import Place, Registry
from sampan.apiserver.tunnel import Socket, Tunnels

CHANNELS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
SPDY_CHANNELS: Final = ("v4.channel.k8s.io",)
_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
_STATUS, _CLOSE = 3, 255
_BROKEN_OFF: Final = bytes((_STATUS,)) + orjson.dumps(
    InternalError("the node's agent went away before the process ended").status()
)
_DONE: Final = frozenset({"Succeeded", "Failed"})


class Streams:
    def __init__(self, registry: Registry, tunnels: Tunnels) -> None:
        self._registry = registry
        self._tunnels = tunnels

    async def pod(self, target: Target) -> tuple[Object, str]:
        """Return the Pod and its node; raise BadRequest if it has none yet."""
        entry = await self._registry.get(Place(target.kind, target.namespace, target.name))
        node = entry.object["spec"].get("nodeName", "")
        if not node:
            raise BadRequest(f"pod {target.name} does not have a host assigned")
        return entry.object, node

    async def log(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        pod, node = await self.pod(target)
        params = _of_pod(pod) | log_params(exchange.query)
        params["container"] = container_of(pod, exchange.query.text("container"))
        async with self._tunnels.stream(node, "logs", params) as agent:
            response = web.StreamResponse(headers={"Cache-Control": "no-cache, private"})
            response.content_type = "text/plain"
            response.enable_chunked_encoding()
            await response.prepare(exchange.request)
            while (frame := await agent.receive()) is not None:
                await response.write(frame if isinstance(frame, bytes) else frame.encode())
        return response

    async def channels(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        """Serve exec and attach."""
        pod, node = await self.pod(target)
        params = _of_pod(pod) | exec_params(exchange.query, target.subresource)
        params["container"] = container_of(pod, exchange.query.text("container"))
        if pod.get("status", {}).get("phase") in _DONE:
            raise BadRequest(
                f"cannot {target.subresource} into a container in a completed pod; current phase "
                f"is {pod['status']['phase']}"
            )
        over_websocket = sockets.wanted(exchange, CHANNELS)
        protocol = upgrade.chosen(exchange, SPDY_CHANNELS)
        if not over_websocket and not protocol:
            raise BadRequest("Upgrade request required: to a WebSocket, or to SPDY/3.1")
        async with self._tunnels.stream(node, target.subresource, params) as agent:
            if over_websocket:
                client = await sockets.accept(exchange, CHANNELS)
                await carry(agent, client, close_frames=client.protocol == CHANNELS[0])
                await client.close()
                return client.response
            return await _over_spdy(exchange, protocol, agent, params)


async def _over_spdy(
    exchange: Exchange, protocol: str, agent: Socket, params: dict[str, Any]
) -> web.StreamResponse:
    carrier = await upgrade.accept(exchange, protocol)
    client = SpdyChannels(carrier)
    streams = [name for name in ("stdin", "stdout", "stderr") if params[name]]
    await client.opened([*streams, "error", *(["resize"] if params["tty"] else [])])
    await carry(agent, client, close_frames=True)
    await client.close()
    return carrier.response


async def carry(agent: Socket, client: Socket, *, close_frames: bool) -> None:
    """Pass frames both ways until one side hangs up; some clients know no *close_frames*.

    A client that is not told how its process ended takes silence for success, so it is told.
    """
    async with asyncio.TaskGroup() as group:
        ways = [
            group.create_task(_pass(agent, client, keep_close=close_frames)),
            group.create_task(_pass(client, agent, keep_close=True)),
        ]
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        if ways[0] in done and not ways[0].result():
            with suppress(ConnectionError):
                await client.send(_BROKEN_OFF)


async def _pass(source: Socket, sink: Socket, *, keep_close: bool) -> bool:
    """Say in the end whether a final status was among what passed."""
    told = False
    with suppress(ConnectionError):
        while (frame := await source.receive()) is not None:
            data = frame.encode() if isinstance(frame, str) else frame
            if data and (keep_close or data[0] != _CLOSE):
                await sink.send(data)
                told = told or data[0] == _STATUS
    return told


def _of_pod(pod: Object) -> dict[str, Any]:
    return {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}


def container_of(pod: Object, name: str) -> str:
    """Choose the container that a request is about, or raise BadRequest as Kubernetes words it."""
    spec, pod_name = pod["spec"], pod["metadata"]["name"]
    main = [container["name"] for container in spec["containers"]]
    early = [c["name"] for c in spec.get("initContainers") or ()]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    if name:
        if name not in (*main, *early, *ephemeral):
            raise BadRequest(f"container {name} is not valid for pod {pod_name}")
        return name
    default = (pod["metadata"].get("annotations") or {}).get(_DEFAULT_CONTAINER)
    if default in main:
        return str(default)
    if len(main) == 1:
        return str(main[0])
    listed = f"[{' '.join(main)}]"
    if early:
        listed += f" or one of the init containers: [{' '.join(early)}]"
    raise BadRequest(
        f"a container name must be specified for pod {pod_name}, choose one of: {listed}"
    )


def log_params(query: Query) -> dict[str, Any]:
    """Read PodLogOptions; raise BadRequest for what contradicts itself."""
    since, since_time = query.number("sinceSeconds"), query.text("sinceTime")
    if since is not None and since_time:
        raise BadRequest("at most one of sinceTime or sinceSeconds may be specified")
    if since is not None and since < 1:
        raise BadRequest("sinceSeconds must be greater than 0")
    limit = query.number("limitBytes")
    if limit is not None and limit < 1:
        raise BadRequest("limitBytes must be greater than 0")
    if since_time:
        _check_time(since_time)
    asked = {
        "follow": query.flag("follow"),
        "previous": query.flag("previous"),
        "timestamps": query.flag("timestamps"),
        "tailLines": query.number("tailLines"),
        "sinceSeconds": since,
        "sinceTime": since_time or None,
        "limitBytes": limit,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _check_time(text: str) -> None:
    try:
        parse_time(text)
    except ValueError:
        raise BadRequest(f"sinceTime: {text!r} is not an RFC 3339 time") from None


def exec_params(query: Query, subresource: str) -> dict[str, Any]:
    """Read PodExecOptions or PodAttachOptions; raise BadRequest for what cannot be done."""
    asked: dict[str, Any] = {
        name: query.flag(name) for name in ("stdin", "stdout", "stderr", "tty")
    }
    if not (asked["stdin"] or asked["stdout"] or asked["stderr"]):
        raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    if asked["tty"] and asked["stderr"]:
        asked["stderr"] = False  # a terminal has one output
    if subresource == "exec":
        asked["command"] = list(query.all("command"))
        if not asked["command"]:
            raise BadRequest("you must specify at least one command for the container")
    return asked
