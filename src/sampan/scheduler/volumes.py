"""Gives claims their volumes once their Pod has a node, and lets it go there when they are bound.

A claim that waits for its first consumer gets an existing volume (the volume names the claim) or an
order for a new one (the claim names the node). Binding the two is the volume controller's business;
here it is awaited.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sampan.aio.backoff import Backoff
from sampan.aio.queue import KeyedQueue
from sampan.api import kinds
from sampan.api.errors import ApiError, Conflict, NotFound
from sampan.api.objects import Object, Resource
from sampan.client.cache import Delta
from sampan.client.interface import Client
from sampan.scheduler.demand import Volumes
from sampan.scheduler.storage import (
    SELECTED_NODE,
    Choice,
    Claim,
    CsiNode,
    Storage,
    StorageClass,
    Volume,
    claim_keys,
)
from sampan.scheduler.views import Pod
from sampan.scheduler.waiting import Waiter

FOLLOWED: Final[Sequence[type[Resource]]] = (Claim, Volume, StorageClass, CsiNode)
PATIENCE: Final = 600.0
"""Seconds for a volume to be made and bound; kube-scheduler's bindTimeoutSeconds."""
WORKERS: Final = 4
BOUND_BY_US: Final = "pv.kubernetes.io/bound-by-controller"

log = logging.getLogger(__name__)


class VolumesNotBound(Exception):
    """The volumes that a Pod needs on its node are not to be had."""


@dataclass(slots=True, eq=False)
class _Binding:
    waiter: Waiter
    node: str
    choices: Sequence[Choice]
    alarm: asyncio.TimerHandle
    written: bool = False


class VolumeBinder:
    def __init__(
        self,
        client: Client,
        *,
        bound: Callable[[Waiter, str], None],
        failed: Callable[[Waiter, str, Exception], None],
        reread: Callable[[Pod], None],
    ) -> None:
        """*bound* and *failed* end what `take` begins; *reread* is told of Pods that need it."""
        self.storage = Storage()
        self._client = client
        self._bound = bound
        self._failed = failed
        self._reread = reread
        self._bindings: dict[str, _Binding] = {}
        self._undecided: dict[str, Pod] = {}
        self._due: KeyedQueue[str] = KeyedQueue(Backoff(first=0.1, cap=10.0))

    # ---- what a Pod needs

    def needs(self, pod: Pod) -> Volumes:
        """Resolve *pod*'s claims, and remember whom a change of them concerns."""
        if not pod.spec.volumes:
            return self.storage.needs(pod)
        self.storage.know(pod)
        needs = self.storage.needs(pod)
        if (needs.unbound or needs.blocked) and not pod.spec.node_name:
            self._undecided[pod.metadata.uid] = pod
        else:
            self._undecided.pop(pod.metadata.uid, None)
        return needs

    def placed(self, pod: Pod) -> None:
        if pod.spec.volumes:
            self.storage.placed.add(pod.metadata.uid)
            self._undecided.pop(pod.metadata.uid, None)

    def unplaced(self, pod: Pod) -> None:
        self.storage.placed.discard(pod.metadata.uid)
        self._reread_users(claim_keys(pod), but=pod.metadata.uid)

    def gone(self, pod: Pod) -> None:
        if not pod.spec.volumes:
            return
        self._undecided.pop(pod.metadata.uid, None)
        if binding := self._bindings.pop(pod.metadata.uid, None):
            binding.alarm.cancel()
            self.storage.give_back(binding.choices)
        self.storage.forget(pod)
        self._reread_users(claim_keys(pod))

    # ---- what changed

    def changed(self, delta: Delta[Any]) -> None:
        key, new = delta.latest.metadata.key, delta.new
        match delta.latest:
            case Claim():
                self.storage.set_claim(key, new)
                self._progress(key)
                self._reread_users([key])
            case Volume():
                self.storage.set_volume(key, new)
                self._volume_changed(delta.latest)
            case StorageClass():
                if new is None:
                    self.storage.classes.pop(key, None)
                else:
                    self.storage.classes[key] = new
                self._reread_class(key)

    def _volume_changed(self, volume: Volume) -> None:
        if ref := volume.spec.claim_ref:
            self._reread_users([f"{ref.get('namespace')}/{ref.get('name')}"])
        else:
            self._reread_class(volume.spec.storage_class_name)

    def _reread_users(self, keys: Iterable[str], but: str = "") -> None:
        for key in keys:
            for uid, pod in list(self.storage.users.get(key, {}).items()):
                if uid not in self._bindings and uid != but:
                    self._reread(pod)

    def _reread_class(self, name: str) -> None:
        for pod in list(self._undecided.values()):
            claims = (self.storage.claims.get(key) for key in claim_keys(pod))
            if any(claim and claim.spec.storage_class_name == name for claim in claims):
                self._reread(pod)

    # ---- taking volumes

    def take(self, waiter: Waiter, node: str, labels: Mapping[str, str]) -> None:
        """Take the volumes that a Pod needs on *node*; end by calling `bound` or `failed`."""
        uid = waiter.pod.metadata.uid
        choices = self.storage.choose(waiter.pod, node, labels)
        if choices is None:
            text = f"the volumes that it needs on {node} have been taken by others"
            self._failed(waiter, node, VolumesNotBound(text))
            return
        self.placed(waiter.pod)
        if not choices:
            self._bound(waiter, node)
            return
        loop = asyncio.get_running_loop()
        text = f"volumes for {node} were not bound within {PATIENCE:g} s"
        alarm = loop.call_later(PATIENCE, self._fail, uid, VolumesNotBound(text))
        self._bindings[uid] = _Binding(waiter, node, choices, alarm)
        self._due.add(uid)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._write_all())

    async def _write_all(self) -> None:
        async for uid in self._due:
            try:
                await self._write(uid)
            except (NotFound, Conflict) as error:
                self._fail(uid, error)
                self._due.done(uid)
            except (ApiError, OSError, TimeoutError) as error:
                log.info("volumes of Pod %s: %s", uid, error)
                self._due.retry(uid, error)
            else:
                self._due.done(uid)

    async def _write(self, uid: str) -> None:
        binding = self._bindings.get(uid)
        if binding is None:
            return
        for choice in binding.choices:
            meta = choice.claim.metadata
            if choice.volume:
                await self._client.patch(
                    kinds.PERSISTENT_VOLUMES, choice.volume, _claimed_by(choice.claim)
                )
            else:
                patch: Object = {
                    "metadata": {"uid": meta.uid, "annotations": {SELECTED_NODE: binding.node}}
                }
                await self._client.patch(
                    kinds.PERSISTENT_VOLUME_CLAIMS, meta.name, patch, meta.namespace
                )
        binding.written = True
        self._check(uid, binding)

    def _progress(self, key: str) -> None:
        for uid in list(self.storage.users.get(key, ())):
            if (binding := self._bindings.get(uid)) and binding.written:
                self._check(uid, binding)

    def _check(self, uid: str, binding: _Binding) -> None:
        """Go on if all claims are bound; give up if one is gone or its volume is not to be had."""
        for choice in binding.choices:
            claim = self.storage.claims.get(choice.claim.metadata.key)
            if claim is None or claim.metadata.uid != choice.claim.metadata.uid:
                self._fail(uid, VolumesNotBound(f"{choice.claim.metadata.key} is gone"))
                return
            if claim.bound:
                continue
            asked = not choice.volume and _newer(claim, choice.claim)
            if asked and SELECTED_NODE not in claim.metadata.annotations:
                text = f"no volume could be made for {choice.claim.metadata.key} on {binding.node}"
                self._fail(uid, VolumesNotBound(text))
            return
        del self._bindings[uid]
        binding.alarm.cancel()
        self._bound(binding.waiter, binding.node)

    def _fail(self, uid: str, error: Exception) -> None:
        if binding := self._bindings.pop(uid, None):
            binding.alarm.cancel()
            self.storage.give_back(binding.choices)
            self._failed(binding.waiter, binding.node, error)


def _newer(claim: Claim, than: Claim) -> bool:
    """Say whether *claim* shows a write since *than*; the order of the node is the first."""
    return claim.metadata.resource_version != than.metadata.resource_version


def _claimed_by(claim: Claim) -> Object:
    meta = claim.metadata
    ref = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
    }
    return {"metadata": {"annotations": {BOUND_BY_US: "yes"}}, "spec": {"claimRef": ref}}
