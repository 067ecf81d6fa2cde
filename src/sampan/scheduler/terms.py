"""Which Pods a rule about neighbours means: by namespace, labels or owner."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from sampan.api.selectors import Labels, Requirement, Selector, from_label_selector

Namespaces = Mapping[str, Labels]
"""The labels of every namespace by its name."""


class Who(NamedTuple):
    """How other Pods' rules see a Pod; Pods that are equal here count alike."""

    namespace: str
    labels: tuple[tuple[str, str], ...]
    owner: str


class Term(Struct, frozen=True):
    """A set of Pods. With *owner* only that counts; no *selector* means no Pod at all."""

    namespaces: frozenset[str] = frozenset()
    selector: Selector | None = None
    namespace_selector: Selector | None = None
    owner: str = ""

    def means(self, who: Who, labels: Labels, namespaces: Namespaces) -> bool:
        """Say whether *who*, whose labels are *labels*, is one of the set."""
        if self.owner:
            return self.owner == who.owner
        if self.selector is None or not self.selector.matches(labels):
            return False
        if who.namespace in self.namespaces:
            return True
        chosen = self.namespace_selector
        return chosen is not None and chosen.matches(namespaces.get(who.namespace, {}))


class PodTerm(Struct, frozen=True):
    """A term of (anti-)affinity: Pods of *term*, in the same domain of *topology_key*."""

    topology_key: str
    term: Term


class Weighted(Struct, frozen=True):
    """A preference; a negative *weight* is a wish to keep away."""

    weight: int
    pods: PodTerm


class Spread(Struct, frozen=True):
    """A topology spread constraint; *by_default* marks those that nobody wrote down."""

    topology_key: str
    max_skew: int
    hard: bool
    term: Term
    min_domains: int = 1
    honours_affinity: bool = True
    honours_taints: bool = False
    by_default: bool = False


def pod_term(raw: Mapping[str, Any], namespace: str, labels: Labels) -> PodTerm:
    """Read a PodAffinityTerm of a Pod in *namespace* with *labels*."""
    chosen = from_label_selector(raw.get("namespaceSelector"))
    listed = frozenset(raw.get("namespaces") or ())
    if not listed and chosen is None:
        listed = frozenset({namespace})
    selector = _with_keys(
        from_label_selector(raw.get("labelSelector")),
        labels,
        same=raw.get("matchLabelKeys") or (),
        other=raw.get("mismatchLabelKeys") or (),
    )
    return PodTerm(raw.get("topologyKey") or "", Term(listed, selector, chosen))


def spread(raw: Mapping[str, Any], namespace: str, labels: Labels) -> Spread:
    """Read a TopologySpreadConstraint of a Pod in *namespace* with *labels*."""
    selector = _with_keys(
        from_label_selector(raw.get("labelSelector")),
        labels,
        same=raw.get("matchLabelKeys") or (),
    )
    return Spread(
        topology_key=raw.get("topologyKey") or "",
        max_skew=raw.get("maxSkew") or 1,
        hard=raw.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        term=Term(frozenset({namespace}), selector),
        min_domains=raw.get("minDomains") or 1,
        honours_affinity=raw.get("nodeAffinityPolicy", "Honor") == "Honor",
        honours_taints=raw.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


def _with_keys(
    selector: Selector | None, labels: Labels, *, same: Sequence[str], other: Sequence[str] = ()
) -> Selector | None:
    """Narrow *selector* to Pods that share (or differ from) this one's values of some keys."""
    if selector is None:
        return None
    added = (*_of(labels, same, "In"), *_of(labels, other, "NotIn"))
    return Selector((*selector.requirements, *added)) if added else selector


def _of(labels: Labels, keys: Sequence[str], operator: str) -> Iterable[Requirement]:
    return (Requirement(key, operator, (labels[key],)) for key in keys if key in labels)
