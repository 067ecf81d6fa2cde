"""Label and field selectors: parsed once, matched often.

Sources: Kubernetes documentation, "Labels and Selectors" and "Field Selectors".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from sampan.api.errors import BadRequest

Labels = Mapping[str, str]

_SET_BASED: Final = re.compile(r"(\S+)\s+(in|notin)\s+\(([^()]*)\)")
_EQUALITY: Final = re.compile(r"([^\s=!<>]+)\s*(==|=|!=|>|<)\s*([^\s=!]*)")
_SPLIT: Final = re.compile(r",(?![^(]*\))")
_KEY: Final = re.compile(
    r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


class Requirement(Struct, frozen=True):
    """One term of a selector. *operator* is one of In, NotIn, Exists, DoesNotExist, Gt, Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                return _compares(value, self.operator, self.values)
        return False


def _compares(value: str | None, operator: str, bounds: Sequence[str]) -> bool:
    try:
        number, bound = int(value or ""), int(bounds[0])
    except ValueError:
        return False
    return number > bound if operator == "Gt" else number < bound


class Selector(Struct, frozen=True):
    """All *requirements* must hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


EVERYTHING: Final = Selector()


def parse_label_selector(text: str) -> Selector:
    """Parse `app=web,tier in (a, b),!debug`; raise BadRequest on a malformed term."""
    terms = (term.strip() for term in _SPLIT.split(text)) if text.strip() else ()
    return Selector(tuple(map(_label_term, terms)))


def _label_term(term: str) -> Requirement:
    if match := _SET_BASED.fullmatch(term):
        key, operator, values = match.groups()
        listed = tuple(value.strip() for value in values.split(","))
        return Requirement(_key(key), "In" if operator == "in" else "NotIn", listed)
    if match := _EQUALITY.fullmatch(term):
        key, sign, value = match.groups()
        operators = {"=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt"}
        return Requirement(_key(key), operators[sign], (value,))
    if term.startswith("!"):
        return Requirement(_key(term[1:].strip()), "DoesNotExist")
    return Requirement(_key(term), "Exists")


def _key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise BadRequest(f"unable to parse label selector: {key!r} is not a label key")
    return key


def from_label_selector(selector: Mapping[str, Any] | None) -> Selector | None:
    """Read a `LabelSelector` object; None selects nothing and stays None."""
    if selector is None:
        return None
    equal = [
        Requirement(key, "In", (value,))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    rules = [
        Requirement(rule["key"], rule["operator"], tuple(rule.get("values") or ()))
        for rule in selector.get("matchExpressions") or ()
    ]
    return Selector((*equal, *rules))


def from_labels(labels: Labels) -> Selector:
    """Select what carries all of *labels* (a Service's `spec.selector`)."""
    return Selector(tuple(Requirement(key, "In", (value,)) for key, value in labels.items()))


class FieldSelector(Struct, frozen=True):
    """Terms of path, wanted value, and whether it must equal (or differ)."""

    terms: tuple[tuple[str, str, bool], ...] = ()

    def matches(self, read: Callable[[str], str]) -> bool:
        """Ask *read* for the value at each path, "" where there is none."""
        return all((read(path) == value) is equal for path, value, equal in self.terms)


def parse_field_selector(text: str) -> FieldSelector:
    """Parse `spec.nodeName=n1,status.phase!=Failed`; raise BadRequest on a malformed term."""
    terms = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        path, sign, value = _partition(term)
        if not sign:
            raise BadRequest(f"invalid field selector {term!r}: write FIELD=VALUE or FIELD!=VALUE")
        terms.append((path, value, sign != "!="))
    return FieldSelector(tuple(terms))


def _partition(term: str) -> tuple[str, str, str]:
    for sign in ("!=", "==", "="):
        if sign in term:
            path, _, value = term.partition(sign)
            return path.strip(), sign, value.strip()
    return term, "", ""
