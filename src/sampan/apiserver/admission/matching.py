"""Which attempts a webhook or a policy is about: rules, scopes and selectors. Pure.

Source: Kubernetes, "Dynamic Admission Control", and admission/plugin/webhook/predicates.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from sampan.api.kinds import KINDS, NAMESPACES, Kind
from sampan.api.objects import Object
from sampan.api.selectors import EVERYTHING, Selector, from_label_selector
from sampan.apiserver import conversion
from sampan.apiserver.admission.attempt import Attempt

_GROUP: Final = "admissionregistration.k8s.io"
_ANY: Final = "*"


class Rule(Struct, frozen=True):
    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: frozenset[str]
    scope: str = _ANY
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, raw: Object) -> "Rule":
        return cls(
            operations=frozenset(raw.get("operations") or ()),
            groups=frozenset(raw.get("apiGroups") or ()),
            versions=frozenset(raw.get("apiVersions") or ()),
            resources=frozenset(raw.get("resources") or ()),
            scope=raw.get("scope") or _ANY,
            names=frozenset(raw.get("resourceNames") or ()),
        )

    def covers(self, attempt: Attempt, kind: Kind) -> bool:
        """Whether this is about *attempt*, seen as one on an object of *kind*."""
        scope = "Namespaced" if kind.namespaced else "Cluster"
        return (
            bool(self.operations & {_ANY, attempt.operation})
            and bool(self.groups & {_ANY, kind.group})
            and bool(self.versions & {_ANY, kind.version})
            and self.scope in {_ANY, scope}
            and self._names_resource(kind.plural, attempt.subresource)
            and (not self.names or attempt.name in self.names)
        )

    def _names_resource(self, plural: str, subresource: str) -> bool:
        if not subresource:
            return bool(self.resources & {_ANY, "*/*", plural})
        ways = {"*/*", f"{plural}/*", f"*/{subresource}", f"{plural}/{subresource}"}
        return bool(self.resources & ways)


class Match(Struct, frozen=True):
    """What of all that happens is meant; no *rules* at all, as in a binding, mean everything."""

    rules: Sequence[Rule] | None = None
    excluded: Sequence[Rule] = ()
    namespaces: Selector = EVERYTHING
    objects: Selector = EVERYTHING
    equivalent: bool = True

    @classmethod
    def of(cls, raw: Object, rules: str = "resourceRules", *, all_: bool = False) -> "Match":
        """Read a webhook or a MatchResources; with *all_*, no rules mean everything."""
        given = tuple(Rule.of(rule) for rule in raw.get(rules) or ())
        return cls(
            None if all_ and not given else given,
            tuple(Rule.of(rule) for rule in raw.get("excludeResourceRules") or ()),
            from_label_selector(raw.get("namespaceSelector") or {}) or EVERYTHING,
            from_label_selector(raw.get("objectSelector") or {}) or EVERYTHING,
            raw.get("matchPolicy", "Equivalent") == "Equivalent",
        )

    def finds(self, attempt: Attempt, namespace: Object | None) -> Kind | None:
        """The kind as which *attempt* is meant; None if it is not meant at all."""
        if not self._selects(attempt, namespace):
            return None
        seen_as: list[Kind] = [attempt.kind, *(_others(attempt.kind) if self.equivalent else ())]
        for kind in seen_as:
            if any(rule.covers(attempt, kind) for rule in self.excluded):
                return None
        if self.rules is None:
            return attempt.kind
        for kind in seen_as:
            if any(rule.covers(attempt, kind) for rule in self.rules):
                return kind
        return None

    def _selects(self, attempt: Attempt, namespace: Object | None) -> bool:
        if attempt.kind == NAMESPACES:
            namespace = attempt.object or attempt.old
        if namespace is not None and not self.namespaces.matches(_labels(namespace)):
            return False
        if not self.objects.requirements:
            return True
        return any(
            self.objects.matches(_labels(obj)) for obj in (attempt.object, attempt.old) if obj
        )


def _labels(obj: Object) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def _others(kind: Kind) -> Iterator[Kind]:
    """The other versions in which objects of the stored *kind* are served."""
    for other in KINDS:
        found = conversion.conversion(other)
        if found is not None and found.stored == kind:
            yield other


def shown_as(kind: Kind, stored: Kind, obj: Object | None) -> Object | None:
    """*obj* of the *stored* kind as an object of *kind*."""
    if obj is None or kind == stored:
        return obj
    return conversion.from_stored(kind, obj)


def kept_as(kind: Kind, stored: Kind, obj: Object) -> Object:
    return obj if kind == stored else conversion.to_stored(kind, obj)


def is_exempt(attempt: Attempt) -> bool:
    """Nothing that users set up may keep them from setting it up otherwise."""
    return attempt.trusted or attempt.kind.group == _GROUP
