"""What a Pod asks for altogether.

Containers run side by side, init containers one after the other beside the sidecars before them.
Source: Kubernetes, k8s.io/component-helpers, resource/helpers.go.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, Literal

from sampan.api import quantities
from sampan.api.objects import Object

Amounts = dict[str, Decimal]
What = Literal["requests", "limits"]

_NONE: Final = Decimal(0)


def amounts(raw: Mapping[str, quantities.Quantity] | None) -> Amounts:
    """Read a ResourceList; what is no quantity is left to validation."""
    read: Amounts = {}
    for name, quantity in (raw or {}).items():
        try:
            read[name] = quantities.parse(quantity)
        except ValueError:
            continue
    return read


def added(one: Mapping[str, Decimal], other: Mapping[str, Decimal], sign: int = 1) -> Amounts:
    total = dict(one)
    for name, amount in other.items():
        total[name] = total.get(name, _NONE) + sign * amount
    return total


def largest(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> Amounts:
    return {name: max(one.get(name, _NONE), other.get(name, _NONE)) for name in {**one, **other}}


def of_container(container: Object, what: What) -> Amounts:
    return amounts((container.get("resources") or {}).get(what))


def of_pod(spec: Object, what: What) -> Amounts:
    """What the whole Pod requests, or is limited to."""
    running = _sum(of_container(c, what) for c in spec.get("containers") or ())
    beside: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = of_container(container, what)
        if container.get("restartPolicy") == "Always":
            beside = added(beside, own)
            peak = largest(peak, beside)
        else:
            peak = largest(peak, added(beside, own))
    total = largest(added(running, beside), peak)
    total |= amounts((spec.get("resources") or {}).get(what))
    overhead = amounts(spec.get("overhead"))
    if what == "limits":
        overhead = {name: amount for name, amount in overhead.items() if name in total}
    return added(total, overhead)


def _sum(parts: Iterable[Amounts]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        total = added(total, part)
    return total
