"""LimitRanges: what containers get that say nothing, and what nobody may exceed.

Source: Kubernetes, plugin/pkg/admission/limitranger.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from sampan.api import quantities
from sampan.api.objects import Object
from sampan.apiserver.admission.amounts import Amounts, amounts, of_container, of_pod

ANNOTATION: Final = "kubernetes.io/limit-ranger"
_LISTS: Final = (("container", "containers"), ("init container", "initContainers"))


def fill_in(pod: Object, ranges: Iterable[Object]) -> None:
    """Give containers the default requests and limits, and note on *pod* which those were."""
    noted: list[str] = []
    for item in _items(ranges, "Container"):
        for word, field in _LISTS:
            for container in pod["spec"].get(field) or ():
                noted += _filled(container, item, word)
    if noted:
        meta = pod["metadata"]
        text = f"LimitRanger plugin set: {'; '.join(noted)}"
        meta["annotations"] = {**(meta.get("annotations") or {}), ANNOTATION: text}


def _filled(container: Object, item: Object, word: str) -> Iterator[str]:
    resources = container.setdefault("resources", {})
    for what, field, singular in (
        ("requests", "defaultRequest", "request"),
        ("limits", "default", "limit"),
    ):
        defaults = item.get(field) or {}
        given = resources.get(what) or {}
        missing = sorted(defaults.keys() - given.keys())
        if missing:
            resources[what] = {**given, **{name: defaults[name] for name in missing}}
            yield f"{', '.join(missing)} {singular} for {word} {container.get('name', '')}"


def broken(pod: Object, ranges: Iterable[Object]) -> list[str]:
    """What *pod* asks for that *ranges* do not allow."""
    told: list[str] = []
    ranges = list(ranges)
    if not ranges:
        return told
    spec = pod["spec"]
    for item in _items(ranges, "Container"):
        for _, field in _LISTS:
            for container in spec.get(field) or ():
                requests = of_container(container, "requests")
                told += _broken_item(item, requests, of_container(container, "limits"))
    requests, limits = of_pod(spec, "requests"), of_pod(spec, "limits")
    for item in _items(ranges, "Pod"):
        told += _broken_item(item, requests, limits)
    return told


def broken_claim(claim: Object, ranges: Iterable[Object]) -> list[str]:
    """What a PersistentVolumeClaim asks for that *ranges* do not allow."""
    requests = amounts(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    return [
        wrong
        for item in _items(ranges, "PersistentVolumeClaim")
        for field, check in (("min", _below), ("max", _above_request))
        for name, bound in (item.get(field) or {}).items()
        if (wrong := check(name, item["type"], bound, requests, {}))
    ]


def told(reasons: list[str]) -> str:
    return reasons[0] if len(reasons) == 1 else f"[{', '.join(reasons)}]"


def _items(ranges: Iterable[Object], type_: str) -> Iterator[Object]:
    for each in ranges:
        for item in (each.get("spec") or {}).get("limits") or ():
            if item.get("type") == type_:
                yield item


Bound = Callable[[str, str, quantities.Quantity, Amounts, Amounts], str]


def _broken_item(item: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for field, check in _CHECKS.items():
        for name, bound in (item.get(field) or {}).items():
            if wrong := check(name, item["type"], bound, requests, limits):
                yield wrong


def _below(
    name: str, type_: str, bound: quantities.Quantity, requests: Amounts, limits: Amounts
) -> str:
    least = quantities.parse(bound)
    rule = f"minimum {name} usage per {type_} is {bound}"
    if name not in requests:
        return f"{rule}.  No request is specified"
    if requests[name] < least:
        return f"{rule}, but request is {_shown(requests[name], bound)}"
    if name in limits and limits[name] < least:
        return f"{rule}, but limit is {_shown(limits[name], bound)}"
    return ""


def _above(
    name: str, type_: str, bound: quantities.Quantity, requests: Amounts, limits: Amounts
) -> str:
    most = quantities.parse(bound)
    rule = f"maximum {name} usage per {type_} is {bound}"
    if name not in limits:
        return f"{rule}.  No limit is specified"
    if limits[name] > most:
        return f"{rule}, but limit is {_shown(limits[name], bound)}"
    if requests.get(name, most) > most:
        return f"{rule}, but request is {_shown(requests[name], bound)}"
    return ""


def _above_request(
    name: str, type_: str, bound: quantities.Quantity, requests: Amounts, _limits: Amounts
) -> str:
    rule = f"maximum {name} usage per {type_} is {bound}"
    if name not in requests:
        return f"{rule}.  No request is specified"
    if requests[name] > quantities.parse(bound):
        return f"{rule}, but request is {_shown(requests[name], bound)}"
    return ""


def _apart(
    name: str, type_: str, bound: quantities.Quantity, requests: Amounts, limits: Amounts
) -> str:
    rule = f"{name} max limit to request ratio per {type_} is {bound}"
    for word, given in (("request", requests), ("limit", limits)):
        if not given.get(name):
            return f"{rule}, but no {word} is specified or {word} is 0"
    ratio = limits[name] / requests[name]
    return f"{rule}, but provided ratio is {ratio:.6f}" if ratio > quantities.parse(bound) else ""


def _shown(amount: Decimal, like: quantities.Quantity) -> str:
    return quantities.written(amount, binary=quantities.is_binary(like))


_CHECKS: Final[Mapping[str, Bound]] = {
    "min": _below, "max": _above, "maxLimitRequestRatio": _apart,
}  # fmt: skip
