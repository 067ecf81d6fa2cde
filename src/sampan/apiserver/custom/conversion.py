"""Objects of one version of a definition as another: by name only, or by its webhook.

Source: Kubernetes, "Versions in CustomResourceDefinitions".
"""

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from sampan.api.errors import ApiError, InternalError, ServiceUnavailable
from sampan.api.objects import Object
from sampan.apiserver import schemas
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.decoding import copied
from sampan.apiserver.entries import Answer, Stored
from sampan.apiserver.interface import Caller, Entry

_WITHIN: Final = 30.0
_KEPT_META: Final = ("name", "namespace", "uid")
_REVIEW: Final = "apiextensions.k8s.io"


async def no_webhook(_client: Object, _body: Object, _within: float) -> Object:
    """Refuse to call anybody: for registries that no wire leads out of."""
    raise ServiceUnavailable("this server calls no webhooks")


class Converter:
    def __init__(self, call: Caller) -> None:
        self._call = call

    async def presented(self, kind: CustomKind, entry: Entry) -> Entry:
        """What is stored as *entry*, as an object of *kind*."""
        return (await self.presented_all(kind, [entry]))[0]

    async def presented_all(self, kind: CustomKind, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The same for many, with one call of the webhook for all that need it."""
        shown = [_as_now(kind, entry) for entry in entries]
        others = [i for i, entry in enumerate(shown) if not _is_of(kind, entry)]
        if not others:
            return shown
        made = await self._converted(kind, [shown[index].object for index in others])
        for index, obj in zip(others, made, strict=True):
            shown[index] = Answer(shown[index].revision, obj)
        return shown

    async def kept(self, kind: CustomKind, obj: Object) -> Object:
        """*obj* of *kind* as it is stored; the same object if it is stored as it is."""
        stored = kind.stored
        if stored.version == kind.version:
            return obj
        return (await self._converted(stored, [obj]))[0]

    async def _converted(self, kind: CustomKind, objects: Sequence[Object]) -> Sequence[Object]:
        definition = kind.definition
        webhook = definition.conversion.get("webhook") if definition else None
        if not webhook:
            return [{**obj, "apiVersion": kind.api_version} for obj in objects]
        version = next(v for v in webhook["conversionReviewVersions"] if v in {"v1", "v1beta1"})
        asked = str(uuid4())
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"{_REVIEW}/{version}",
            "request": {
                "uid": asked,
                "desiredAPIVersion": kind.api_version,
                "objects": list(objects),
            },
        }
        try:
            answer = await self._call(webhook["clientConfig"], review, _WITHIN)
            return _read(kind, objects, answer, asked)
        except ApiError as error:
            raise InternalError(
                f"conversion webhook for {objects[0]['apiVersion']}, Kind={kind.kind} failed: "
                f"{error.message}"
            ) from error


def _is_of(kind: CustomKind, entry: Entry) -> bool:
    if isinstance(entry, Stored):
        return entry.is_of(kind)
    return bool(entry.object.get("apiVersion") == kind.api_version)


def _as_now(kind: CustomKind, entry: Entry) -> Entry:
    """*entry* with what its schema has learned since it was written."""
    definition = kind.definition
    if definition is None or not isinstance(entry, Stored) or entry.revision >= definition.revision:
        return entry
    version = str(entry.object.get("apiVersion", "")).rpartition("/")[2]
    own = definition.kinds.get(version, definition.stored).version_
    obj: Object = copied(entry.object, nulls=True)
    schemas.prune(obj, own.unknown(obj))
    own.fill(obj)
    return entry if obj == entry.object else Answer(entry.revision, obj)


def _read(
    kind: CustomKind, objects: Sequence[Object], answer: Object, asked: str
) -> Sequence[Object]:
    """The converted objects of a webhook's *answer*, with the metadata that is not its own."""
    response = answer.get("response") or {}
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise InternalError(str(result.get("message") or "it answered neither yes nor no"))
    if response.get("uid") != asked:
        raise InternalError(f'expected response.uid="{asked}", got "{response.get("uid")}"')
    made = response.get("convertedObjects") or []
    if len(made) != len(objects):
        raise InternalError(f"expected {len(objects)} converted objects, got {len(made)}")
    return [_checked(kind, old, new) for old, new in zip(objects, made, strict=True)]


def _checked(kind: CustomKind, old: Object, new: Object) -> Object:
    wanted = {"apiVersion": kind.api_version, "kind": kind.kind}
    for field, value in wanted.items():
        if new.get(field) != value:
            raise InternalError(f"expected {field} {value} in a converted object")
    meta, given = old["metadata"], new.get("metadata") or {}
    for field in _KEPT_META:
        if meta.get(field) != given.get(field):
            raise InternalError(f"it changed metadata.{field}, which no conversion may")
    changed = {key: given[key] for key in ("labels", "annotations") if given.get(key)}
    left = {key: value for key, value in meta.items() if key not in {"labels", "annotations"}}
    return {**new, "metadata": {**left, **changed}}
