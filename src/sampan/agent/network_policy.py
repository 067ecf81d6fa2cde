"""The node's Pods guarded as NetworkPolicies say, from the first packet of each.

The whole table is compiled from what is known now and given to the kernel when it differs from
what that has. A Pod that just got its address waits with its first container until the kernel
knows of it. The Pods of other nodes are followed only while the cluster has policies.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from sampan.agent.spec import NodePod
from sampan.api.objects import Container, Namespace, Pod, PodSpec, PodStatus
from sampan.client.cache import Cache, Delta, Interest
from sampan.client.interface import Client
from sampan.net.guard import table
from sampan.net.kernel import Kernel
from sampan.net.nft import NftError
from sampan.net.policy import NetworkPolicy, compile_policies

SETTLE: Final = 0.003
RETRY: Final = 1.0

log = logging.getLogger(__name__)


class Policies:
    """*here* follows the policies and this node's Pods, and is run by the caller."""

    def __init__(self, client: Client, here: Cache, kernel: Kernel) -> None:
        self._client, self._here, self._kernel = client, here, kernel
        self._everywhere = self._followed()
        self._newcomers: dict[str, Pod] = {}
        """Pods whose address the API may not show yet, by uid."""
        self._guarded: dict[str, str] = {}
        """The address by which the kernel knows a Pod, by uid."""
        self._kept: str | None = None
        """What the kernel was given last, if that is certain."""
        self._wake = asyncio.Event()
        self._kept_again = asyncio.Event()
        here.subscribe(self._note)

    async def run(self) -> None:
        """Keep the kernel's table as the policies say, until cancelled."""
        await self._here.synced()
        async with asyncio.TaskGroup() as group:
            following: asyncio.Task[None] | None = None
            while True:
                if self._here.all(NetworkPolicy) and following is None:
                    self._everywhere = self._followed()
                    following = group.create_task(self._everywhere.run(), name="policies' peers")
                    await self._everywhere.synced()
                elif following and not self._here.all(NetworkPolicy):
                    following.cancel()
                    following = None
                await self._keep()
                await self._wake.wait()
                await asyncio.sleep(SETTLE)

    def again(self) -> None:
        """Give the kernel everything once more: somebody changed its rules."""
        self._kept = None
        self._wake.set()

    async def connected(self, pod: NodePod, address: str) -> None:
        """Wait until the kernel guards a Pod that has *address*, if any policy may be about it."""
        space, uid = pod.metadata.namespace, pod.uid
        if pod.spec.host_network:
            return
        while any(p.metadata.namespace == space for p in self._here.all(NetworkPolicy)):
            if self._guarded.get(uid) == address:
                return
            self._newcomers[uid] = _as_seen(pod, address)
            self._wake.set()
            await self._kept_again.wait()

    def _followed(self) -> Cache:
        cache = Cache(self._client, [Interest(Pod, indexes={}), Interest(Namespace, indexes={})])
        cache.subscribe(self._note)
        return cache

    async def _keep(self) -> None:
        self._wake.clear()
        here = self._pods_here()
        text = self._table(here)
        if text != self._kept:
            self._kept = None
            try:
                await asyncio.to_thread(self._kernel.guard, text)
            except (NftError, OSError) as error:
                log.warning("the kernel refused the rules of policies: %s", error)
                await asyncio.sleep(RETRY)
                self._wake.set()
                return
            self._kept = text
        self._guarded = {uid: pod.status.pod_ip for uid, pod in here.items()}
        self._kept_again.set()
        self._kept_again = asyncio.Event()

    def _pods_here(self) -> dict[str, Pod]:
        here = {pod.metadata.uid: pod for pod in self._here.all(Pod)}
        shown = {pod.status.pod_ip for pod in here.values()}
        for uid, newcomer in list(self._newcomers.items()):
            if newcomer.status.pod_ip in shown:
                del self._newcomers[uid]
            else:
                here[uid] = newcomer
        return here

    def _table(self, here: Mapping[str, Pod]) -> str:
        policies = self._here.all(NetworkPolicy)
        if not policies:
            return table({})
        spaces = {n.metadata.name: n.metadata.labels for n in self._everywhere.all(Namespace)}
        everybody = self._everywhere.all(Pod)
        return table(compile_policies(here.values(), policies, everybody, spaces))

    def _note(self, delta: Delta[Any]) -> None:
        if delta.new is None:
            self._newcomers.pop(delta.latest.metadata.uid, None)
        if delta.view is NetworkPolicy or _essence(delta.old) != _essence(delta.new):
            self._wake.set()


def _essence(obj: Any) -> object:
    """What policies ask about a Pod or Namespace."""
    if isinstance(obj, Pod):
        return obj.metadata.labels, obj.status.pod_ip, obj.finished
    return obj.metadata.labels if isinstance(obj, Namespace) else None


def _as_seen(pod: NodePod, address: str) -> Pod:
    """A Pod as the API will show it when its address is told."""

    def plain(containers: list[Any]) -> list[Container]:
        return [
            Container(name=c.name, ports=c.ports, restart_policy=c.restart_policy)
            for c in containers
        ]

    spec = PodSpec(
        containers=plain(pod.spec.containers), init_containers=plain(pod.spec.init_containers)
    )
    return Pod(metadata=pod.metadata, spec=spec, status=PodStatus(pod_ip=address))
