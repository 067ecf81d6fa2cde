"""Patches of stored objects: which patch, against which schema, to what object."""

from datetime import datetime
from typing import Any

from sampan.api.errors import BadRequest, UnsupportedMediaType
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import metadata, schemas
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.decoding import copied, decoded
from sampan.apiserver.interface import Call
from sampan.apiserver.patches import json_patch, managed, merge, server_side, strategic
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
                    "the body of the request was in an unknown format - accepted media types "
                    "include: application/json-patch+json, application/merge-patch+json, "
                    f"application/apply-patch+yaml: a strategic merge patch cannot know the lists "
                    f"of {kind.kind}, which has no built-in schema"
                )
            return strategic.apply(old, patch, schemas.types()[name])
    raise UnsupportedMediaType(f"{how} is not a way to patch one object by another")


def proposal(kind: Kind, old: Object, patch: Any, how: PatchType, call: Call) -> Object:
    """An own, checked copy of what *patch* makes of *old*.

    Raise Conflict if it was meant for another uid or resourceVersion.
    """
    new = decoded(kind, patched(kind, old, patch, how), call)
    meta = new["metadata"]
    before = old["metadata"]
    metadata.check_identity(kind, before.get("namespace", ""), before["name"], new)
    metadata.check_preconditions(kind, old, meta.get("uid"), meta.get("resourceVersion"))
    return new


class Configuration:
    """An applied configuration: checked once, then laid over whatever is there."""

    def __init__(self, kind: Kind, raw: Any, subresource: str, call: Call, now: datetime) -> None:
        if not call.manager:
            raise BadRequest("fieldManager is required for apply patch")
        self._kind = kind
        self._now = now
        self._force = call.force
        self.config = decoded(kind, raw, call)
        if self.config["metadata"].get("managedFields"):
            raise BadRequest("metadata.managedFields must be nil")
        self._who = managed.Who(call.manager, managed.APPLY, kind.api_version, subresource)

    def first(self) -> Object:
        """The object that this configuration creates."""
        kind = self._kind
        owned = managed.owned(kind, self.config, "")
        made = copied(self.config, nulls=True)
        if owned:
            made["metadata"]["managedFields"] = [self._who.entry(owned, self._now)]
        return made  # type: ignore[no-any-return]

    def laid_over(self, live: Object) -> Object:
        """An own copy of *live* with this configuration; raise Conflict where others own it."""
        kind, meta = self._kind, self.config["metadata"]
        before = live["metadata"]
        metadata.check_identity(kind, before.get("namespace", ""), before["name"], self.config)
        metadata.check_preconditions(kind, live, meta.get("uid"), meta.get("resourceVersion"))
        new = server_side.apply(
            kind, live, self.config, self._who, force=self._force, now=self._now
        )
        return copied(new, nulls=isinstance(kind, CustomKind))  # type: ignore[no-any-return]
