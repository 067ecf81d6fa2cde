"""What a node may write is only about itself and the Pods that run on it.

The role of a node says which kinds; this looks at the objects. Source: Kubernetes documentation,
"Using Node Authorization" and the admission plugin NodeRestriction.
"""

from typing import Any, Final

from sampan.api.errors import Forbidden, NotFound
from sampan.api.kinds import PERSISTENT_VOLUMES, PODS
from sampan.api.marks import VOLUME_NODE
from sampan.api.objects import Object
from sampan.apiserver.authz import NODE_PREFIX, NODES
from sampan.apiserver.http.paths import Target
from sampan.apiserver.identity import User
from sampan.apiserver.interface import Place, Registry

_READS: Final = frozenset({"get", "list", "watch"})


class NodeRestriction:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def check(self, user: User, target: Target, verb: str) -> None:
        """Raise Forbidden if *user* is a node and *target* the Pod or volume of another."""
        if NODES in user.groups and target.kind is PODS and verb not in _READS:
            await self._check_pod(user, target.namespace, target.name)
        elif NODES in user.groups and target.kind is PERSISTENT_VOLUMES and verb not in _READS:
            await self._check_volume(user, target.name)

    async def check_token(self, user: User, namespace: str, request: Object) -> None:
        """Raise Forbidden if a node asks for a token that is not for a Pod of its own."""
        if NODES not in user.groups:
            return
        bound = _mapping(_mapping(request.get("spec")).get("boundObjectRef"))
        if bound.get("kind") != PODS.kind:
            raise Forbidden(f"{user.name} may only ask for tokens that are bound to a Pod")
        await self._check_pod(user, namespace, str(bound.get("name", "")))

    async def _check_pod(self, user: User, namespace: str, name: str) -> None:
        try:
            entry = await self._registry.get(Place(PODS, namespace, name))
        except NotFound:
            return  # whoever answers next says so
        node = user.name.removeprefix(NODE_PREFIX)
        if entry.object["spec"].get("nodeName") != node:
            raise Forbidden(
                f'pods "{name}" is forbidden: node "{node}" can only write Pods that run on it'
            )

    async def _check_volume(self, user: User, name: str) -> None:
        try:
            entry = await self._registry.get(Place(PERSISTENT_VOLUMES, "", name))
        except NotFound:
            return
        node = user.name.removeprefix(NODE_PREFIX)
        if _mapping(entry.object["metadata"].get("labels")).get(VOLUME_NODE) != node:
            raise Forbidden(
                f'persistentvolumes "{name}" is forbidden: it was not made on node "{node}"'
            )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
