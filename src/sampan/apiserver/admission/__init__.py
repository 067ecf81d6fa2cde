"""Admission: what other objects decide about a change, in two passes.

`complete` fills in and may change the object, `check` looks at the finished one and only refuses.
The order of each is the list in its function. Deciding is pure and in a module of its own for each
concern; the shell here reads what a decision needs. No pass holds a lock. Kubernetes also gives
every Pod a toleration of 300 seconds for dead nodes; here the taint eviction controller knows what
a Pod tolerates that says nothing, so that Pods of a dead node are replaced in seconds.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.apiserver.admission import classes, limits, security
from sampan.apiserver.admission.accounts import (
    DEFAULT_ACCOUNT,
    ROOT_CA,
    TOKEN_PATH,
    add_account,
)
from sampan.apiserver.admission.attempt import Attempt
from sampan.apiserver.admission.namespaces import check_namespace
from sampan.apiserver.admission.priority import SYSTEM_PRIORITIES, set_priority
from sampan.apiserver.admission.protection import protect
from sampan.apiserver.admission.quota import Ledger
from sampan.apiserver.admission.users import Users
from sampan.apiserver.problems import not_found
from sampan.apiserver.reading import Reader

__all__ = [
    "DEFAULT_ACCOUNT", "ROOT_CA", "SYSTEM_PRIORITIES", "TOKEN_PATH", "Admission", "Attempt",
    "Users",
]  # fmt: skip

LIMIT_RANGES: Final = kinds.BY_GVK["v1", "LimitRange"]
INGRESSES: Final = kinds.BY_GVK["networking.k8s.io/v1", "Ingress"]
INGRESS_CLASSES: Final = kinds.BY_GVK["networking.k8s.io/v1", "IngressClass"]
STORAGE_CLASSES: Final = kinds.BY_GVK["storage.k8s.io/v1", "StorageClass"]
RUNTIME_CLASSES: Final = kinds.BY_GVK["node.k8s.io/v1", "RuntimeClass"]
_SIZED: Final = frozenset({"", "resize"})
_SECURED: Final = frozenset({"", "ephemeralcontainers"})


class Admission:
    """*furnish* gives a namespace what every namespace has, where it is missing."""

    def __init__(
        self, reader: Reader, furnish: Callable[[str], Awaitable[None]], users: Users
    ) -> None:
        self._reader = reader
        self._furnish = furnish
        self._users = users
        self.ledger = Ledger(reader, users.served)

    async def complete(self, attempt: Attempt) -> None:
        """Complete the attempt's object, or raise why it may not be."""
        creates = attempt.operation == "CREATE" and not attempt.subresource
        if creates and attempt.kind.namespaced:
            await check_namespace(self._reader, attempt)
        if creates and attempt.is_pod:
            limits.fill_in(attempt.new, await self._limit_ranges(attempt))
            add_account(attempt.new, await self._account(attempt))
            set_priority(attempt.new, await self._reader.all(kinds.PRIORITY_CLASSES))
            await self._add_runtime_class(attempt)
        elif creates and attempt.kind == kinds.PERSISTENT_VOLUME_CLAIMS:
            await self._set_storage_class(attempt.new)
        elif creates and attempt.kind == INGRESSES:
            await self._set_ingress_class(attempt)
        if creates:
            protect(attempt.kind, attempt.new)
        await self._users.complete(attempt)

    async def check(self, attempt: Attempt) -> None:
        """Raise why the attempt, complete and valid, may not be; change nothing."""
        await self._check_limits(attempt)
        await self._check_security(attempt)
        await self._users.check(attempt)

    async def _limit_ranges(self, attempt: Attempt) -> list[Object]:
        return list(await self._reader.all(LIMIT_RANGES, attempt.namespace))

    async def _account(self, attempt: Attempt) -> Object:
        namespace = attempt.namespace
        name = attempt.new["spec"].get("serviceAccountName") or DEFAULT_ACCOUNT
        found = await self._reader.find(kinds.SERVICE_ACCOUNTS, namespace, name)
        if found is None and name == DEFAULT_ACCOUNT:
            await self._furnish(namespace)
            found = await self._reader.find(kinds.SERVICE_ACCOUNTS, namespace, name)
        if found is None:
            raise attempt.refused(
                f"error looking up service account {namespace}/{name}: serviceaccount "
                f'"{name}" not found'
            )
        return found.object

    async def _add_runtime_class(self, attempt: Attempt) -> None:
        name = attempt.new["spec"].get("runtimeClassName")
        if not name:
            return
        found = await self._reader.find(RUNTIME_CLASSES, "", name)
        if found is None:
            raise attempt.refused(f'pod rejected: RuntimeClass "{name}" not found')
        if why := classes.add_runtime_class(attempt.new, found.object):
            raise attempt.refused(f"pod rejected: {why}")

    async def _set_storage_class(self, claim: Object) -> None:
        if classes.needs_storage_class(claim):
            known = await self._reader.all(STORAGE_CLASSES)
            if found := classes.default_class(known, classes.STORAGE_DEFAULT):
                claim["spec"]["storageClassName"] = found["metadata"]["name"]

    async def _set_ingress_class(self, attempt: Attempt) -> None:
        if classes.needs_ingress_class(attempt.new):
            known = await self._reader.all(INGRESS_CLASSES)
            if why := classes.ambiguous_ingress_classes(known):
                raise attempt.refused(why)
            if found := classes.default_class(known, classes.INGRESS_DEFAULT):
                attempt.new["spec"]["ingressClassName"] = found["metadata"]["name"]

    async def _check_limits(self, attempt: Attempt) -> None:
        """Compare with LimitRanges what claims ask for, and Pods at first and in a resize."""
        if attempt.object is None or attempt.subresource not in _SIZED:
            return
        sizes = attempt.operation == "CREATE" or attempt.subresource == "resize"
        if attempt.is_pod and sizes:
            broken = limits.broken(attempt.new, await self._limit_ranges(attempt))
        elif attempt.kind == kinds.PERSISTENT_VOLUME_CLAIMS:
            broken = limits.broken_claim(attempt.new, await self._limit_ranges(attempt))
        else:
            return
        if broken:
            raise attempt.refused(limits.told(broken))

    async def _check_security(self, attempt: Attempt) -> None:
        if attempt.object is None or attempt.subresource not in _SECURED:
            return
        if attempt.kind == kinds.NAMESPACES:
            await self._warn_of_pods_there(attempt)
            return
        changed = attempt.old is None or attempt.old.get("spec") != attempt.new.get("spec")
        pod = (
            attempt.new if attempt.is_pod else security.template(attempt.kind.resource, attempt.new)
        )
        if pod is None or not changed:
            return
        found = await self._reader.find(kinds.NAMESPACES, "", attempt.namespace)
        if found is None:
            raise not_found(kinds.NAMESPACES, attempt.namespace)
        if not security.has_say(found.object):
            return
        if attempt.is_pod and (why := security.refusal(found.object, pod)):
            raise attempt.refused(why)
        if why := security.warning(found.object, pod):
            attempt.warn(why)

    async def _warn_of_pods_there(self, attempt: Attempt) -> None:
        labels = attempt.new["metadata"].get("labels") or {}
        if attempt.old is not None and security.LABEL + "enforce" in labels:
            pods = await self._reader.all(kinds.PODS, attempt.name)
            for warning in security.tightened(attempt.old, attempt.new, pods):
                attempt.warn(warning)
