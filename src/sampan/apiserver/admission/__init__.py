"""Admission: what other objects decide about a change, in two passes.

`complete` fills in and may change the object, `check` looks at the finished one and only refuses.
The order of each is the list in its function. Deciding is pure and in a module of its own for each
concern; the shell here reads what a decision needs. No pass holds a lock. Kubernetes also gives
every Pod a toleration of 300 seconds for dead nodes; here the taint eviction controller knows what
a Pod tolerates that says nothing, so that Pods of a dead node are replaced in seconds.
"""

from collections.abc import Awaitable, Callable

from sampan.api import kinds
from sampan.api.objects import Object
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
from sampan.apiserver.reading import Reader

__all__ = [
    "DEFAULT_ACCOUNT", "ROOT_CA", "SYSTEM_PRIORITIES", "TOKEN_PATH", "Admission", "Attempt",
]  # fmt: skip


class Admission:
    """*furnish* gives a namespace what every namespace has, where it is missing."""

    def __init__(self, reader: Reader, furnish: Callable[[str], Awaitable[None]]) -> None:
        self._reader = reader
        self._furnish = furnish

    async def complete(self, attempt: Attempt) -> None:
        """Complete the attempt's object, or raise why it may not be."""
        creates = attempt.operation == "CREATE" and not attempt.subresource
        if creates and attempt.kind.namespaced:
            await check_namespace(self._reader, attempt)
        if creates and attempt.is_pod:
            add_account(attempt.new, await self._account(attempt))
            set_priority(attempt.new, await self._reader.all(kinds.PRIORITY_CLASSES))
        if creates:
            protect(attempt.kind, attempt.new)

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
