"""ResourceQuotas, enforced from a ledger in memory, and their status kept by whoever changes it.

What objects count for is summed once for a namespace and kind that a quota limits, and kept up
with each write. A change is charged to the ledger before it is written, without a pause between
looking and charging, so that changes that race cannot both take what is left for one.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from typing import Final
from weakref import WeakValueDictionary

from sampan.api.kinds import NAMESPACES, Kind
from sampan.api.objects import Object
from sampan.apiserver import conversion
from sampan.apiserver.admission.amounts import Amounts, added
from sampan.apiserver.admission.attempt import Attempt
from sampan.apiserver.admission.usage import (
    QUOTAS,
    Traits,
    Usage,
    exceeded,
    hard,
    resources,
    selects,
    status,
    total,
    unspecified,
    usage,
)
from sampan.apiserver.reading import Reader

Put = Callable[[Object, Callable[[Object], Object]], Awaitable[None]]
"""Change the status of the given quota to what the function makes of its newest state."""

_GRAVES: Final = 1024


class Charge:
    """What an attempt adds, held in advance until the `with` block ends that writes it."""

    def __init__(self, among: "list[Charge]", traits: Traits, more: Amounts) -> None:
        self.traits = traits
        self.more = more
        self._among = among

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._among.remove(self)


class _Account:
    """What the objects of one kind in one namespace count for, and what is charged beforehand."""

    def __init__(self) -> None:
        self.complete = False
        self._known: dict[str, tuple[int, Usage | None]] = {}
        self._gone: deque[str] = deque()
        self._sums: dict[Traits, Amounts] = defaultdict(dict)
        self._charged: list[Charge] = []

    def set(self, key: str, revision: int, counted: Usage | None) -> bool:
        """Note what *key* counts for as of *revision*; return whether that is a change."""
        at, before = self._known.get(key, (0, None))
        if revision <= at:
            return False
        self._known[key] = (revision, counted)
        if counted is None:
            self._bury(key)
        if before == counted:
            return False
        for each, sign in ((before, -1), (counted, 1)):
            if each:
                self._sums[each.traits] = added(self._sums[each.traits], each.amounts, sign)
        return True

    def _bury(self, key: str) -> None:
        """Remember for a while that *key* is gone, against older news of it that come late."""
        self._gone.append(key)
        if len(self._gone) > _GRAVES:
            oldest = self._gone.popleft()
            if self._known.get(oldest, (0, None))[1] is None:
                self._known.pop(oldest, None)

    def charge(self, traits: Traits, more: Amounts) -> "Charge":
        made = Charge(self._charged, traits, more)
        self._charged.append(made)
        return made

    def parts(self, *, charged: bool) -> Iterator[tuple[Traits, Mapping[str, Decimal]]]:
        yield from self._sums.items()
        if charged:
            yield from ((charge.traits, charge.more) for charge in self._charged)


class Ledger:
    def __init__(self, reader: Reader, served: Callable[[], Iterable[Kind]]) -> None:
        self._reader = reader
        self._served = served
        self._accounts: dict[tuple[str, str], _Account] = {}
        self._opening = asyncio.Lock()
        self._settling: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def charged(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Charge what the attempt adds, to be held while it is written.

        Raise Forbidden if that is too much.
        """
        namespace = attempt.namespace
        if not namespace or attempt.object is None:
            return nullcontext()
        mine = await self._limiting(attempt.kind, namespace)
        if not mine:
            return nullcontext()
        account = await self._account(attempt.kind, namespace)
        counted = usage(attempt.kind, attempt.object)
        more = dict(counted.amounts)
        if attempt.old is not None:
            more = added(more, usage(attempt.kind, attempt.old).amounts, -1)
        more = {name: amount for name, amount in more.items() if amount > 0}
        _check(attempt, account, counted.traits, more, mine)
        return account.charge(counted.traits, more)

    def record(self, kind: Kind, obj: Object, revision: int, *, gone: bool = False) -> bool:
        """Take up what was just written, or deleted; return whether quotas may have changed."""
        meta = obj["metadata"]
        if kind == NAMESPACES and gone:
            self._close(meta["name"])
        namespace = meta.get("namespace", "")
        if not namespace:
            return False
        if kind == QUOTAS and not gone and not _is_settled(obj):
            return True
        account = self._accounts.get((namespace, kind.resource))
        if account is None:
            return kind != QUOTAS
        key = kind.key(namespace, meta["name"])
        return account.set(key, revision, None if gone else usage(kind, obj))

    async def settle(self, kind: Kind, namespace: str, put: Put) -> None:
        """Bring the status of the quotas up to date that limit *kind* in *namespace*."""
        if not await self._limiting(kind, namespace):
            return
        lock = self._settling.get(namespace)
        if lock is None:
            lock = self._settling[namespace] = asyncio.Lock()
        async with lock:
            for quota in await self._limiting(kind, namespace):
                await put(quota, await self._counting(quota))

    async def _limiting(self, kind: Kind, namespace: str) -> list[Object]:
        """The quotas that limit *kind*; all of them if that is what quotas are."""
        quotas = await self._reader.all(QUOTAS, namespace)
        if not quotas or kind == QUOTAS:
            return list(quotas)
        return [q for q in quotas if kind.resource in resources(q)]

    async def _counting(self, quota: Object) -> Callable[[Object], Object]:
        """A function that sets a quota's status to what is taken when it is called."""
        namespace = quota["metadata"]["namespace"]
        wanted = resources(quota)
        kinds: dict[str, Kind] = {}
        for kind in self._served():
            if kind.resource in wanted and conversion.conversion(kind) is None:
                kinds.setdefault(kind.resource, kind)
        accounts = [await self._account(kind, namespace) for kind in kinds.values()]

        def counted(newest: Object) -> Object:
            used: Amounts = {}
            for account in accounts:
                used = added(used, total(account.parts(charged=False), newest))
            return {**newest, "status": status(newest, used)}

        return counted

    async def _account(self, kind: Kind, namespace: str) -> _Account:
        """The account of a kind, which is filled with what is there when it is first asked for."""
        at = (namespace, kind.resource)
        account = self._accounts.get(at)
        if account is not None and account.complete:
            return account
        async with self._opening:
            account = self._accounts.setdefault(at, _Account())
            if not account.complete:
                page = await self._reader.store.list(kind.key(namespace))
                for change in page.items:
                    obj = self._reader.entry(kind, change).object
                    account.set(change.key, change.revision, usage(kind, obj))
                account.complete = True
        return account

    def _close(self, namespace: str) -> None:
        for at in [at for at in self._accounts if at[0] == namespace]:
            del self._accounts[at]


def _check(
    attempt: Attempt,
    account: _Account,
    traits: Traits,
    more: Amounts,
    quotas: Iterable[Object],
) -> None:
    for quota in quotas:
        if not more or not selects(quota, traits):
            continue
        name = quota["metadata"]["name"]
        if attempt.is_pod and (why := unspecified(quota, attempt.new)):
            raise attempt.refused(f"failed quota: {name}: {why}")
        if why := exceeded(quota, total(account.parts(charged=True), quota), more):
            raise attempt.refused(why)


def _is_settled(quota: Object) -> bool:
    found = quota.get("status") or {}
    used = found.get("used") or {}
    return (found.get("hard") or {}) == hard(quota) and used.keys() == hard(quota).keys()
