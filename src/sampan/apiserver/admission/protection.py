"""Claims and volumes stay until nobody uses them: a finalizer that the volume controllers take off.

Source: Kubernetes documentation, "Storage Object in Use Protection".
"""

from collections.abc import Mapping
from typing import Final

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object

_FINALIZERS: Final[Mapping[Kind, str]] = {
    kinds.PERSISTENT_VOLUME_CLAIMS: "kubernetes.io/pvc-protection",
    kinds.PERSISTENT_VOLUMES: "kubernetes.io/pv-protection",
}


def protect(kind: Kind, obj: Object) -> None:
    mine = _FINALIZERS.get(kind)
    held = obj["metadata"].get("finalizers") or []
    if mine and mine not in held:
        obj["metadata"]["finalizers"] = [*held, mine]
