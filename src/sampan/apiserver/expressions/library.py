"""What Kubernetes adds to CEL: lists, regular expressions, quantities, versions, sets, formats.

A quantity or a version is a map that remembers what it is: the evaluator carries no values of
foreign types. Source: Kubernetes, "CEL in Kubernetes"; k8s.io/apiserver, pkg/cel/library.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from ipaddress import ip_address
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import re2
from cel_expr_python import cel

from sampan.api import quantities
from sampan.apiserver.validation import names

Tagged = dict[str, Any]

_T: Final = cel.Type
_TAGGED: Final = _T.Map(_T.STRING, _T.DYN)
_ANY_LIST: Final = _T.List(_T.DYN)


def function(
    name: str, result: Any, parameters: Sequence[Any], impl: Callable[..., Any], *, member: bool
) -> tuple[str, Any]:
    """One overload of the function called *name*."""
    kinds = "_".join(re.sub(r"\W+", "_", parameter.name()).lower() for parameter in parameters)
    how = "member" if member else "global"
    id_ = f"sampan_{name.replace('.', '_')}_{how}_{kinds}"
    return name, cel.Overload(id_, result, list(parameters), member, impl=impl)


def declared(overloads: Iterable[tuple[str, Any]]) -> list[Any]:
    by_name: dict[str, list[Any]] = {}
    for name, overload in overloads:
        by_name.setdefault(name, []).append(overload)
    return [cel.FunctionDecl(name, found) for name, found in by_name.items()]


def _is_sorted(items: list[Any]) -> bool:
    return all(one <= other for one, other in pairwise(items))


def _last_index(items: list[Any], item: Any) -> int:
    return next((i for i in reversed(range(len(items))) if items[i] == item), -1)


def _regex(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error


def _find(text: str, pattern: str) -> str:
    found = _regex(pattern).search(text)
    return found.group(0) if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match.group(0) for match in _regex(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


def _quantity(text: str) -> Tagged:
    return {"quantity": format(quantities.parse(text).normalize(), "f")}


def _amount(value: Tagged) -> Decimal:
    return Decimal(value["quantity"])


def _is(read: Callable[[Any], Any]) -> Callable[[Any], bool]:
    def readable(text: Any) -> bool:
        try:
            read(text)
        except (ValueError, TypeError):
            return False
        return True

    return readable


def _sum_of(one: Tagged, other: Any, sign: int = 1) -> Tagged:
    added = _amount(other) if isinstance(other, dict) else Decimal(other)
    return {"quantity": format((_amount(one) + sign * added).normalize(), "f")}


def _as_integer(value: Tagged) -> int:
    amount = _amount(value)
    if amount != amount.to_integral_value():
        raise ValueError("cannot convert value to integer")
    return int(amount)


_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)
_LOOSE: Final = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?((?:[-+]).*)?")


def _semver(text: str, loose: bool = False) -> Tagged:  # noqa: FBT001, FBT002 - CEL has no keywords
    if loose and (match := _LOOSE.fullmatch(text)):
        numbers = ".".join(str(int(number or 0)) for number in match.groups()[:3])
        text = numbers + (match[4] or "")
    if not (found := _SEMVER.fullmatch(text)):
        raise ValueError(f"{text!r} is no semantic version")
    return {"semver": [int(found[1]), int(found[2]), int(found[3])], "pre": found[4] or ""}


def _version_rank(value: Tagged) -> tuple[Any, ...]:
    """A key that orders versions: a pre-release comes before its release."""
    pre = value["pre"]
    parts = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split(".")] if pre else []
    return (*value["semver"], not pre, parts)


def _rank(value: Tagged) -> Any:
    return _version_rank(value) if "semver" in value else _amount(value)


def _compare(one: Tagged, other: Tagged) -> int:
    mine, theirs = _rank(one), _rank(other)
    return int(mine > theirs) - int(mine < theirs)


def _is_base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return "must be base64"
    return ""


def _wrong(read: Callable[[str], Any], what: str) -> Callable[[str], str]:
    return lambda text: "" if _is(read)(text) else f"invalid {what}"


_FORMATS: Final[Mapping[str, Callable[[str], str]]] = {
    "dns1123Label": names.label,
    "dns1123Subdomain": names.subdomain,
    "dns1035Label": names.label_1035,
    "qualifiedName": names.qualified,
    "labelValue": names.label_value,
    "dns1123LabelPrefix": lambda text: names.label(text.rstrip("-") or "-"),
    "dns1123SubdomainPrefix": lambda text: names.subdomain(text.rstrip("-.") or "-"),
    "dns1035LabelPrefix": lambda text: names.label_1035(text.rstrip("-") or "-"),
    "uri": lambda text: "" if re.match(r"[a-zA-Z][\w+.-]*:|/", text) else "invalid URI",
    "uuid": _wrong(UUID, "UUID"),
    "byte": _is_base64,
    "date": _wrong(lambda text: datetime.strptime(text, "%Y-%m-%d"), "date"),  # noqa: DTZ007 - a day only
    "datetime": _wrong(datetime.fromisoformat, "date-time"),
    "ip": _wrong(ip_address, "IP address"),
}


def _validate(named: Tagged, text: str) -> list[str]:
    wrong = _FORMATS[named["format"]](text)
    return [wrong] if wrong else []


def _named_format(name: str) -> Callable[[], Tagged]:
    return lambda: {"format": name}


def _intersects(one: list[Any], other: list[Any]) -> bool:
    return any(item in other for item in one)


def _contains(one: list[Any], other: list[Any]) -> bool:
    return all(item in one for item in other)


_LISTS: Final = (
    function("isSorted", _T.BOOL, [_ANY_LIST], _is_sorted, member=True),
    function("sum", _T.DYN, [_ANY_LIST], sum, member=True),
    function("min", _T.DYN, [_ANY_LIST], min, member=True),
    function("max", _T.DYN, [_ANY_LIST], max, member=True),
    function("indexOf", _T.INT, [_ANY_LIST, _T.DYN],
             lambda items, item: items.index(item) if item in items else -1, member=True),
    function("lastIndexOf", _T.INT, [_ANY_LIST, _T.DYN], _last_index, member=True),
    function("sets.contains", _T.BOOL, [_ANY_LIST, _ANY_LIST], _contains, member=False),
    function("sets.intersects", _T.BOOL, [_ANY_LIST, _ANY_LIST], _intersects, member=False),
    function("sets.equivalent", _T.BOOL, [_ANY_LIST, _ANY_LIST],
             lambda one, other: _contains(one, other) and _contains(other, one), member=False),
)  # fmt: skip
_TEXTS: Final = (
    function("find", _T.STRING, [_T.STRING, _T.STRING], _find, member=True),
    function("findAll", _T.List(_T.STRING), [_T.STRING, _T.STRING], _find_all, member=True),
    function("findAll", _T.List(_T.STRING), [_T.STRING, _T.STRING, _T.INT], _find_all, member=True),
    function("jsonpatch.escapeKey", _T.STRING, [_T.STRING],
             lambda key: key.replace("~", "~0").replace("/", "~1"), member=False),
    function("validate", _T.List(_T.STRING), [_TAGGED, _T.STRING], _validate, member=True),
    *(function(f"format.{name}", _TAGGED, [], _named_format(name), member=False)
      for name in _FORMATS),
)  # fmt: skip
_AMOUNTS: Final = (
    function("quantity", _TAGGED, [_T.STRING], _quantity, member=False),
    function("isQuantity", _T.BOOL, [_T.STRING], _is(_quantity), member=False),
    function("sign", _T.INT, [_TAGGED], lambda q: _compare(q, {"quantity": "0"}), member=True),
    function("isInteger", _T.BOOL, [_TAGGED], _is(_as_integer), member=True),
    function("asInteger", _T.INT, [_TAGGED], _as_integer, member=True),
    function("asApproximateFloat", _T.DOUBLE, [_TAGGED], lambda q: float(_amount(q)), member=True),
    *(function(name, _TAGGED, [_TAGGED, other],
               lambda one, two, sign=sign: _sum_of(one, two, sign), member=True)
      for name, sign in (("add", 1), ("sub", -1)) for other in (_TAGGED, _T.INT)),
)  # fmt: skip
_VERSIONS: Final = (
    function("semver", _TAGGED, [_T.STRING], _semver, member=False),
    function("semver", _TAGGED, [_T.STRING, _T.BOOL], _semver, member=False),
    function("isSemver", _T.BOOL, [_T.STRING], _is(_semver), member=False),
    *(function(name, _T.INT, [_TAGGED], lambda v, at=at: v["semver"][at], member=True)
      for at, name in enumerate(("major", "minor", "patch"))),
)  # fmt: skip
_ORDERED: Final = (
    function("compareTo", _T.INT, [_TAGGED, _TAGGED], _compare, member=True),
    function("isLessThan", _T.BOOL, [_TAGGED, _TAGGED],
             lambda one, other: _compare(one, other) < 0, member=True),
    function("isGreaterThan", _T.BOOL, [_TAGGED, _TAGGED],
             lambda one, other: _compare(one, other) > 0, member=True),
)  # fmt: skip

FUNCTIONS: Final = declared((*_LISTS, *_TEXTS, *_AMOUNTS, *_VERSIONS, *_ORDERED))
