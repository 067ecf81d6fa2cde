"""Rules of LimitRanges and ResourceQuotas.

Source: Kubernetes, pkg/apis/core/validation, ValidateLimitRange and ValidateResourceQuota.
"""

from collections.abc import Iterator
from typing import Any, Final

from sampan.api import quantities
from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.apiserver.problems import bad_value, duplicate, not_allowed, required, unsupported
from sampan.apiserver.validation import names
from sampan.apiserver.validation.containers import validate_quantity

_BOUNDS: Final = ("min", "default", "defaultRequest", "max", "maxLimitRequestRatio")
_ORDERED: Final = (
    ("min", "min", "max", "max"),
    ("min", "min", "defaultRequest", "default request"),
    ("min", "min", "default", "default"),
    ("defaultRequest", "default request", "max", "max"),
    ("defaultRequest", "default request", "default", "default limit"),
    ("default", "default", "max", "max"),
)
"""Which bound may not be greater than which other, and what each is called."""
_SCOPES: Final = (
    "BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass",
    "Terminating", "VolumeAttributesClass",
)  # fmt: skip
_OPPOSITES: Final = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_OPERATORS: Final = ("DoesNotExist", "Exists", "In", "NotIn")


def validate_limit_range(obj: Object) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        here = f"spec.limits[{index}]"
        type_ = item.get("type", "")
        if wrong := names.qualified(type_):
            yield bad_value(f"{here}.type", type_, wrong)
        if type_ in seen:
            yield duplicate(f"{here}.type", type_)
        seen.add(type_)
        problems = [
            cause
            for bound in _BOUNDS
            for name, amount in (item.get(bound) or {}).items()
            for cause in validate_quantity(amount, f"{here}.{bound}[{name}]")
        ]
        yield from problems
        if not problems:
            yield from _item(here, item)


def _item(here: str, item: Object) -> Iterator[Cause]:
    """Rules of one item whose quantities can be read."""
    if item.get("type") == "Pod":
        for field in ("default", "defaultRequest"):
            if item.get(field):
                why = "may not be specified when `type` is 'Pod'"
                yield not_allowed(f"{here}.{field}", why)
    if item.get("type") == "PersistentVolumeClaim" and not (
        "storage" in (item.get("min") or {}) or "storage" in (item.get("max") or {})
    ):
        why = "either minimum or maximum storage value is required, but neither was provided"
        yield required(f"{here}.limits", why)
    for lower, called, upper, other in _ORDERED:
        below, above = item.get(lower) or {}, item.get(upper) or {}
        for name in sorted(below.keys() & above.keys()):
            if quantities.parse(below[name]) > quantities.parse(above[name]):
                why = f"{called} value {below[name]} is greater than {other} value {above[name]}"
                yield bad_value(f"{here}.{lower}[{name}]", str(below[name]), why)
    for name, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        if quantities.parse(ratio) < 1:
            field = f"{here}.maxLimitRequestRatio[{name}]"
            yield bad_value(field, str(ratio), f"ratio {ratio} is less than 1")


def validate_quota(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    for name, amount in (spec.get("hard") or {}).items():
        if wrong := names.qualified(name):
            yield bad_value(f"spec.hard[{name}]", name, wrong)
        yield from validate_quantity(amount, f"spec.hard[{name}]")
    scopes = spec.get("scopes") or ()
    for index, scope in enumerate(scopes):
        if scope not in _SCOPES:
            yield unsupported(f"spec.scopes[{index}]", scope, _SCOPES)
    for pair in _OPPOSITES:
        if set(pair) <= set(scopes):
            yield bad_value("spec.scopes", list(scopes), "conflicting scopes")
    terms = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    for index, term in enumerate(terms):
        yield from _term(f"spec.scopeSelector.matchExpressions[{index}]", term)


def _term(here: str, term: Any) -> Iterator[Cause]:
    scope, operator = term.get("scopeName", ""), term.get("operator", "")
    if scope not in _SCOPES:
        yield unsupported(f"{here}.scopeName", scope, _SCOPES)
    if operator not in _OPERATORS:
        yield unsupported(f"{here}.operator", operator, _OPERATORS)
    elif operator in {"In", "NotIn"} and not term.get("values"):
        why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
        yield required(f"{here}.values", why)
    elif operator in {"Exists", "DoesNotExist"} and term.get("values"):
        why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
        yield bad_value(f"{here}.values", list(term["values"]), why)
