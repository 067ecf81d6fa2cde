"""Patches of stored objects: which patch, against which schema, to what object."""

from typing import Any

from sampan.api.errors import UnsupportedMediaType
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import metadata, schemas
from sampan.apiserver.decoding import decoded
from sampan.apiserver.interface import Call
from sampan.apiserver.patches import json_patch, merge, strategic
from sampan.client.interface import PatchType


def patched(kind: Kind, old: Object, patch: Any, how: PatchType) -> Any:
    """*old* as *patch* changes it; not in place, and not yet checked."""
    match how:
        case PatchType.JSON:
            return json_patch.apply(old, patch)
        case PatchType.MERGE:
            return merge.apply(old, patch)
        case PatchType.STRATEGIC:
            name = schemas.type_name(kind)
            if name is None:
                raise UnsupportedMediaType(
                    f"{kind.kind} has no published schema, so a strategic merge patch cannot know "
                    "its lists; use a JSON merge patch (application/merge-patch+json)"
                )
            return strategic.apply(old, patch, schemas.types()[name])
    raise UnsupportedMediaType(f"{how} is not a patch of an object that is there")


def proposal(kind: Kind, old: Object, patch: Any, how: PatchType, call: Call) -> Object:
    """An own, checked copy of what *patch* makes of *old*; raise Conflict if it was meant for
    another uid or resourceVersion."""
    new, _ = decoded(kind, patched(kind, old, patch, how), call)
    meta = new["metadata"]
    before = old["metadata"]
    metadata.check_identity(kind, before.get("namespace", ""), before["name"], new)
    metadata.check_preconditions(kind, old, meta.get("uid"), meta.get("resourceVersion"))
    return new
