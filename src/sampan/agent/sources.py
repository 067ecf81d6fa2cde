"""ConfigMaps, Secrets and tokens that Pods of this node need, fetched by name.

A node may read a Secret only by its name, so there is no list to follow; what a volume shows is
asked again from time to time. Many Pods that start at once share one answer.
"""

import base64
import binascii
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

import msgspec
from msgspec import Struct

from sampan.agent.env import Reference
from sampan.agent.flight import SingleFlight
from sampan.agent.payload import TokenSource
from sampan.agent.spec import NodePod
from sampan.api import kinds
from sampan.api.errors import ApiError, NotFound
from sampan.api.objects import Object
from sampan.client.interface import Client

ROTATE_AT: Final = 0.8
"""The part of a token's life after which it is replaced; Kubernetes' figure."""
REMEMBERED: Final = 500
"""How many answers are kept for when the server cannot be reached."""
_KINDS: Final = {"configmap": kinds.CONFIGMAPS, "secret": kinds.SECRETS}


Answers = dict[tuple[str, Reference], Object | None]
"""What was found in one round of questions, by namespace and name."""


class _Claims(Struct):
    exp: float = 0
    iat: float = 0


class Sources:
    def __init__(self, client: Client, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock
        self._flights: SingleFlight[tuple[str, Reference], Object | None] = SingleFlight()
        self._last: OrderedDict[tuple[str, Reference], Object | None] = OrderedDict()

    async def fetch(
        self, namespace: str, references: Collection[Reference], answers: Answers | None = None
    ) -> dict[Reference, Object | None]:
        """Get each object, None where there is none; raises ApiError for anything else.

        While the server cannot be reached, what it said last still counts. With *answers*, what is
        in there is not asked again.
        """
        known = {} if answers is None else answers
        for ref in references:
            if (namespace, ref) not in known:
                known[namespace, ref] = await self._get(namespace, ref)
        return {ref: known[namespace, ref] for ref in references}

    async def _get(self, namespace: str, ref: Reference) -> Object | None:
        key = (namespace, ref)
        try:
            found = await self._flights.do(key, lambda: self._ask(namespace, ref))
        except (ApiError, OSError, TimeoutError) as error:
            refused = isinstance(error, ApiError) and not error.retryable
            if refused or key not in self._last:
                raise
            return self._last[key]
        self._last.pop(key, None)
        self._last[key] = found
        while len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return found

    async def _ask(self, namespace: str, ref: Reference) -> Object | None:
        try:
            return await self._client.get(_KINDS[ref.source], ref.name, namespace)
        except NotFound:
            return None

    async def token(self, pod: NodePod, source: TokenSource, held: str) -> str:
        """Return *held* while it is good for long enough, else a new token for *pod*."""
        if held and not self.stale(held):
            return held
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {
                "name": pod.spec.service_account_name or "default",
                "namespace": pod.metadata.namespace,
            },
            "spec": {
                "audiences": [source.audience] if source.audience else [],
                "expirationSeconds": source.seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pod.metadata.name,
                    "uid": pod.uid,
                },
            },
        }
        answer = await self._client.create(kinds.SERVICE_ACCOUNTS, request, subresource="token")
        return str(answer["status"]["token"])

    def stale(self, token: str) -> bool:
        """Whether most of the token's life is over."""
        claims = _claims(token)
        return self._clock() >= claims.iat + (claims.exp - claims.iat) * ROTATE_AT


def _claims(token: str) -> _Claims:
    """Read a JWT's times, trusting it; what cannot be read has long expired."""
    try:
        body = token.split(".")[1]
        padded = body + "=" * (-len(body) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims)
    except (IndexError, binascii.Error, msgspec.MsgspecError):
        return _Claims()
