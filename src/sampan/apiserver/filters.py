"""Which objects a list or a watch asks for.

Kubernetes lets a field selector name only a few fields of each kind; asking for another is an
error, never an empty answer.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from sampan.api import kinds
from sampan.api.errors import BadRequest
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.api.selectors import (
    EVERYTHING,
    FieldSelector,
    Selector,
    parse_field_selector,
    parse_label_selector,
)
from sampan.apiserver.custom.kind import CustomKind

_EVERY_KIND: Final = frozenset({"metadata.name", "metadata.namespace"})
_EVENT: Final = frozenset({
    "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
    "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
    "reason", "reportingComponent", "source", "type",
})  # fmt: skip
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    kinds.PODS.resource: frozenset({
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
    }),
    kinds.EVENTS.resource: _EVENT,
    kinds.SECRETS.resource: frozenset({"type"}),
    kinds.NAMESPACES.resource: frozenset({"status.phase", "name"}),
    kinds.NODES.resource: frozenset({"spec.unschedulable"}),
    kinds.SERVICES.resource: frozenset({"spec.clusterIP", "spec.type"}),
    kinds.REPLICA_SETS.resource: frozenset({"status.replicas"}),
    kinds.REPLICATION_CONTROLLERS.resource: frozenset({"status.replicas"}),
    kinds.JOBS.resource: frozenset({"status.successful"}),
    "certificatesigningrequests.certificates.k8s.io": frozenset({"spec.signerName"}),
}  # fmt: skip
_ELSEWHERE: Final = {
    "name": ("metadata", "name"),
    "status.successful": ("status", "succeeded"),
}
_ZERO: Final = {
    "spec.hostNetwork": "false",
    "spec.unschedulable": "false",
    "status.replicas": "0",
    "status.successful": "0",
}
_EVENTS_V1: Final = {
    "regarding.": "involvedObject.",
    "reportingController": "reportingComponent",
}


class Filter(Struct, frozen=True):
    labels: Selector = EVERYTHING
    fields: FieldSelector = FieldSelector()

    @property
    def selective(self) -> bool:
        return bool(self.labels.requirements or self.fields.terms)

    @property
    def name(self) -> str:
        """The one name that can match, or "" if more than one can."""
        return next((v for path, v, equal in self.fields.terms if equal and path == _NAME), "")

    def matches(self, obj: Object) -> bool:
        if not self.labels.matches(obj["metadata"].get("labels") or {}):
            return False
        return not self.fields.terms or self.fields.matches(lambda path: read(obj, path))


_NAME: Final = "metadata.name"
_ALL: Final = Filter()


def make_filter(kind: Kind, labels: str, fields: str) -> Filter:
    """Read both selectors; raise BadRequest for a malformed one or a field that kind has not."""
    if not labels and not fields:
        return _ALL
    selector = FieldSelector(
        tuple((_field(kind, path), value, equal) for path, value, equal in _terms(fields))
    )
    return Filter(parse_label_selector(labels), selector)


def _terms(fields: str) -> tuple[tuple[str, str, bool], ...]:
    return parse_field_selector(fields).terms


def _field(kind: Kind, path: str) -> str:
    known = path
    if kind.group == "events.k8s.io":
        for new, old in _EVENTS_V1.items():
            known = old + known.removeprefix(new) if known.startswith(new) else known
    if known not in _EVERY_KIND and known not in _selectable(kind):
        raise BadRequest(
            f'Unable to find "{kind.api_version}, Resource={kind.plural}" that match field '
            f'selector "{path}": field label not supported: {path}'
        )
    return known


def _selectable(kind: Kind) -> frozenset[str]:
    if isinstance(kind, CustomKind):
        return kind.version_.selectable
    resource = kinds.EVENTS.resource if kind.kind == "Event" else kind.resource
    return _FIELDS.get(resource, frozenset())


def read(obj: Object, path: str) -> str:
    """The text at *path*, as a field selector compares it."""
    if path == "source":
        return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent", ""))
    value: Any = obj
    for part in _ELSEWHERE.get(path) or path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return _ZERO.get(path, "")
    return str(value).lower() if isinstance(value, bool) else str(value)
