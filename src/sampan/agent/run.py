"""A node at work: its parts started in the order in which they need each other, and kept running.

The runtime and the network come first, because Pods need both; registration and the tunnel do not
wait for them. Stopping leaves the containers running: the next agent finds them again.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import grpc
from cri_api.v1 import api_pb2

from sampan.agent.collecting import Collector, disk_space
from sampan.agent.config import AgentConfig
from sampan.agent.containerd import NodeError, ensure_containerd
from sampan.agent.images import ImageStore, serve_load_image
from sampan.agent.network import NodeNetwork
from sampan.agent.network_acks import connections
from sampan.agent.network_check import serve_check
from sampan.agent.node import NodeAgent, keep_lease
from sampan.agent.orphans import end_orphans
from sampan.agent.pods import Pods
from sampan.agent.registries import NodeRuntime
from sampan.agent.stats import Stats
from sampan.agent.streams.attach import serve_attach
from sampan.agent.streams.containerd import Containerd, open_containerd
from sampan.agent.streams.containers import reason
from sampan.agent.streams.exec import serve_exec
from sampan.agent.streams.logs import serve_logs
from sampan.agent.streams.portforward import serve_portforward
from sampan.agent.streams.stream import Verb
from sampan.agent.tunnel import Tunnel
from sampan.aio.supervise import supervise
from sampan.api import kinds
from sampan.api.errors import ApiError
from sampan.api.objects import Object
from sampan.client.http import HttpClient

_ANSWERS_WITHIN: Final = 10.0
_ASKED_EVERY: Final = 10.0
_IMAGES_LISTED_EVERY: Final = 20.0
_ORPHAN_LOOKS: Final = 6

log = logging.getLogger(__name__)


async def run(config: AgentConfig, client: HttpClient) -> None:
    """Be the node until cancelled; its containerd must have been started."""
    async with (
        open_containerd(config.containerd_socket) as containerd,
        HttpClient(client.connection) as heartbeat_client,
    ):
        await Node(config, client, heartbeat_client, containerd).run()


class Node:
    """All parts of one node's agent."""

    def __init__(
        self,
        config: AgentConfig,
        client: HttpClient,
        heartbeat_client: HttpClient,
        containerd: Containerd,
    ) -> None:
        self._config = config
        self._client = client
        self._heartbeat_client = heartbeat_client
        self._containerd = containerd
        self._network = NodeNetwork(config, client)
        self._images = ImageStore(config, client, containerd)
        runtime = NodeRuntime(containerd.channel, config.registry_dir)
        self._pods = Pods(
            config,
            client,
            runtime,
            self._network.cluster,
            unfinished=connections,
            connected=self._network.policies.connected,
        )
        self._agent = NodeAgent(config, client, self._prepare_network)
        self._stats = Stats(config, self._pods.running, lambda: datetime.now(UTC))
        self._runtime_ready = asyncio.Event()
        self._network_ready = asyncio.Event()
        self._images_changed = asyncio.Event()
        self._restarted = asyncio.Event()
        self._restarted.set()

    async def run(self) -> None:
        config = self._config
        await supervise(
            {
                "lease": partial(
                    keep_lease, self._heartbeat_client, config.node_name, config.heartbeat_seconds
                ),
                "runtime": self._keep_runtime,
                "node": self._agent.run,
                "network": self._run_network,
                "pods": self._run_pods,
                "tunnel": Tunnel(self._client, self._verbs()).run,
                "images": self._load_images,
                "image list": self._list_images,
                "stats": self._stats.run,
                "image collection": self._collect_images,
                "orphans": self._end_orphans,
            }
        )

    def _verbs(self) -> Mapping[str, Verb]:
        return {
            "logs": partial(serve_logs, self._containerd, self._find_pod),
            "exec": partial(serve_exec, self._containerd, self._config.exec_dir),
            "attach": partial(serve_attach, self._containerd),
            "portforward": partial(serve_portforward, self._containerd),
            "load-image": self._load_image,
            "stats": self._stats.serve,
            "check-network": partial(serve_check, self._network),
        }

    async def _find_pod(self, namespace: str, name: str) -> Object:
        return await self._client.get(kinds.PODS, name, namespace)

    async def _prepare_network(self, pod_cidr: str) -> None:
        await self._network.prepare(pod_cidr)
        self._network_ready.set()

    async def _run_network(self) -> None:
        await self._network_ready.wait()
        await self._network.run()

    async def _run_pods(self) -> None:
        await self._runtime_ready.wait()
        await self._network_ready.wait()
        await self._pods.run()

    async def _load_images(self) -> None:
        await self._runtime_ready.wait()
        await self._images.load_missing()
        self._images_changed.set()

    async def _load_image(self, params: Mapping[str, Any], stream: Any) -> None:
        await serve_load_image(self._images, params, stream)
        self._images_changed.set()

    async def _end_orphans(self) -> None:
        """Look some times after each start of ours or of containerd's: only a kill leaves any."""
        looks = 0
        while True:
            if looks == 0:
                await self._restarted.wait()
            if self._restarted.is_set():
                self._restarted.clear()
                looks = _ORPHAN_LOOKS
            try:
                await end_orphans(self._config, self._known_to_runtime)
                looks -= 1
            except grpc.RpcError as error:
                log.info("orphans are looked for later: %s", reason(error))
            await asyncio.sleep(_ASKED_EVERY)

    async def _known_to_runtime(self) -> set[str]:
        cri = self._containerd.cri
        sandboxes = await cri.ListPodSandbox(api_pb2.ListPodSandboxRequest())
        containers = await cri.ListContainers(api_pb2.ListContainersRequest())
        return {item.id for item in (*sandboxes.items, *containers.containers)}

    async def _collect_images(self) -> None:
        await self._runtime_ready.wait()
        space = partial(disk_space, self._config.data_dir)
        collector = Collector(self._images, space, time.monotonic)
        while True:
            try:
                await collector.run()
            except (grpc.RpcError, ApiError, OSError, TimeoutError) as error:
                log.warning("images are not collected: %s", error)
                await asyncio.sleep(_IMAGES_LISTED_EVERY)

    async def _list_images(self) -> None:
        await self._runtime_ready.wait()
        while True:
            self._images_changed.clear()
            self._agent.images(await self._images.present())
            try:
                async with asyncio.timeout(_IMAGES_LISTED_EVERY):
                    await self._images_changed.wait()
            except TimeoutError:
                continue

    async def _keep_runtime(self) -> None:
        """Tell whether containerd answers, and start it again when it has ended."""
        while True:
            try:
                process = ensure_containerd(self._config)
                version = await self._version()
                await self._images.ensure_pause()
            except NodeError as error:
                self._agent.problem("runtime", str(error))
                await asyncio.sleep(_ASKED_EVERY)
            except grpc.RpcError as error:
                self._agent.problem("runtime", f"containerd does not answer: {reason(error)}")
            else:
                self._agent.runtime_answers(f"containerd://{version}")
                self._runtime_ready.set()
                if await _ended(process.pid, within=_ASKED_EVERY):
                    log.warning("containerd (process %d) has ended; starting it again", process.pid)
                    self._restarted.set()

    async def _version(self) -> str:
        """Ask containerd for its version, waiting while it starts."""
        answer = await self._containerd.cri.Version(
            api_pb2.VersionRequest(), timeout=_ANSWERS_WITHIN, wait_for_ready=True
        )
        return str(answer.runtime_version)


async def _ended(pid: int, *, within: float) -> bool:
    """Wait until a process has ended, *within* seconds at most; say whether it has."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(within):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    with suppress(ChildProcessError):  # a child of an earlier agent
        os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended: this does not wait
    return True
