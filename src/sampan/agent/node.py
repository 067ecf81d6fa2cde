"""The node as the API sees it: its Node object kept true, and a Lease that says it is alive.

The Node object is level-triggered like everything else: whenever it or what we know changes, the
difference is patched. So a Node that somebody deletes is made again, and one that the control plane
called `Unknown` while we were cut off is corrected as soon as we see it.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import field

from sampan.agent.config import AgentConfig
from sampan.agent.machine import Headroom, Machine
from sampan.agent.registration import Image, Report, label_patch, new_node, status_patch
from sampan.aio.backoff import Backoff
from sampan.api import kinds
from sampan.api.errors import AlreadyExists, ApiError, NotFound
from sampan.api.objects import NodeSpec, Object, Resource
from sampan.api.time import micro_timestamp
from sampan.client.cache import Cache, Interest
from sampan.client.interface import Client, PatchType

LEASE_NAMESPACE: Final = "kube-node-lease"
LEASE_SECONDS: Final = 6
_MEASURED_EVERY: Final = 10.0
_ANSWER_WITHIN: Final = 1.5
"""A renewal that takes longer is given up and tried again: suspicion begins after 2 s."""
_RETRY: Final = Backoff(first=0.1, cap=2.0)
_LEASE_RETRY: Final = 0.2
_NETWORK_RETRY: Final = Backoff(first=0.2, cap=10.0)

log = logging.getLogger(__name__)


class OwnNode(Resource):
    """The whole of what we write, to compare with."""

    KIND = kinds.NODES
    spec: NodeSpec = NodeSpec()
    status: Object = field(default_factory=dict)


class NodeAgent:
    """Registers the node and keeps its status true; others tell it what stands in the way.

    *prepare_network* is called with the node's range of Pod addresses, again if that changes.
    """

    def __init__(
        self,
        config: AgentConfig,
        client: Client,
        prepare_network: Callable[[str], Awaitable[None]],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config = config
        self._client = client
        self._prepare_network = prepare_network
        self._now = now
        self._machine = Machine.read(config.data_dir)
        self._headroom = Headroom.read(config.data_dir)
        self._runtime = ""
        self._images: Sequence[Image] = ()
        self._problems: dict[str, str | None] = {"runtime": None, "network": None}
        self._changed = asyncio.Event()
        self._cache = Cache(client, [Interest(OwnNode, fields=f"metadata.name={config.node_name}")])
        self._cache.subscribe(lambda _: self._changed.set())

    async def run(self) -> None:
        """Do it until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cache.run())
            group.create_task(self._measure())
            group.create_task(self._keep_network())
            await self._cache.synced()
            await self._keep_reported()

    def runtime_answers(self, version: str) -> None:
        self._runtime = version
        self.solved("runtime")

    def problem(self, source: str, text: str) -> None:
        """Say why the node is not ready; *source* is whose problem it is."""
        self._set(source, text)

    def solved(self, source: str) -> None:
        self._set(source, "")

    def images(self, images: Sequence[Image]) -> None:
        """Report *images* as what the node has."""
        if images != self._images:
            self._images = images
            self._changed.set()

    def _set(self, source: str, text: str) -> None:
        if self._problems.get(source) != text:
            self._problems[source] = text
            self._changed.set()

    def _report(self) -> Report:
        problems = list(self._problems.values())
        told = "; ".join(problem for problem in problems if problem)
        return Report(
            machine=self._machine,
            headroom=self._headroom,
            runtime=self._runtime,
            images=self._images,
            problem=told or (None if None in problems else ""),
        )

    async def _keep_reported(self) -> None:
        failures = 0
        while True:
            self._changed.clear()
            try:
                await self._bring_up_to_date()
            except (ApiError, OSError, TimeoutError) as error:
                failures += 1
                log.warning("node %s: cannot report: %s", self._config.node_name, error)
                await asyncio.sleep(_RETRY.delay(failures))
            else:
                failures = 0
                await self._changed.wait()

    async def _bring_up_to_date(self) -> None:
        name, report = self._config.node_name, self._report()
        seen = self._cache.get(OwnNode, "", name)
        if seen is None:
            made = new_node(self._config, report, self._now())
            try:
                await self._written(await self._client.create(kinds.NODES, made))
            except AlreadyExists:
                await asyncio.sleep(_RETRY.first)  # the cache is about to show it
                self._changed.set()
            return
        meta = {"labels": seen.metadata.labels, "annotations": seen.metadata.annotations}
        node = {"metadata": meta, "status": seen.status}
        if labels := label_patch(self._config, node, report):
            await self._written(await self._client.patch(kinds.NODES, name, labels))
        if status := status_patch(self._config, node, report, self._now()):
            written = await self._client.patch(
                kinds.NODES,
                name,
                {"status": status},
                subresource="status",
                how=PatchType.STRATEGIC,
            )
            await self._written(written)

    async def _written(self, node: Object) -> None:
        """Wait until the cache shows our own write, so that it is not planned twice."""
        revision = int(node["metadata"]["resourceVersion"])
        async with asyncio.timeout(10):
            await self._cache.seen(OwnNode, revision)

    async def _keep_network(self) -> None:
        """Prepare the network as soon as the node has a range of addresses, and when it changes."""
        prepared, failures = "", 0
        watching = asyncio.Event()
        self._cache.subscribe(lambda _: watching.set())
        while True:
            watching.clear()
            node = self._cache.get(OwnNode, "", self._config.node_name)
            wanted = node.spec.pod_cidr if node else ""
            if not wanted or wanted == prepared:
                await watching.wait()
                continue
            try:
                await self._prepare_network(wanted)
            except Exception as error:  # whatever it is: it is why the node is not ready
                failures += 1
                log.warning("cannot prepare the network", exc_info=True)
                self.problem("network", f"the Pod network cannot be prepared: {error}")
                await asyncio.sleep(_NETWORK_RETRY.delay(failures))
            else:
                prepared, failures = wanted, 0
                self.solved("network")

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(_MEASURED_EVERY)
            self._headroom = Headroom.read(self._config.data_dir)
            self._changed.set()


async def keep_lease(
    client: Client,
    node: str,
    every: float,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    jitter: Callable[[], float] = random.random,
) -> None:
    """Renew the node's Lease until cancelled, every *every* seconds and never much later.

    Give it a client of its own: a renewal must not queue behind other requests.
    """
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await _renew(client, node, now())
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("node %s: the lease is not renewed: %s", node, error or "no answer in time")
            await asyncio.sleep(_LEASE_RETRY)
        else:
            pause = every * (0.9 + 0.1 * jitter())
            await asyncio.sleep(max(begun + pause - loop.time(), 0))


async def _renew(client: Client, node: str, now: datetime) -> None:
    spec = {
        "holderIdentity": node,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": micro_timestamp(now),
    }
    try:
        await client.patch(kinds.LEASES, node, {"spec": spec}, LEASE_NAMESPACE)
    except NotFound:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": node, "namespace": LEASE_NAMESPACE},
            "spec": spec,
        }
        await client.create(kinds.LEASES, lease)
