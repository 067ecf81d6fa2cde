"""Amounts of resources, written the Kubernetes way: `500m`, `64Mi`, `1e3`, `2`.

Source: the `Quantity` type of Kubernetes API conventions (k8s.io/apimachinery, resource).
"""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

Quantity = str | int | float

_SUFFIXES: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40, "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip
_BINARY: Final = ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki", "")
_DECIMAL: Final = ("E", "P", "T", "G", "M", "k", "", "m", "u", "n")
_FORM: Final = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|(n|u|m|k|[KMGTPE]i|[MGTPE])?)"
)


def parse(quantity: Quantity) -> Decimal:
    """Return the exact amount; raise ValueError if it is not a quantity."""
    text = str(quantity)
    if not (match := _FORM.fullmatch(text)):
        raise ValueError(
            f"{text!r} is not a quantity: write a number with an optional suffix, "
            "such as 500m, 2, 64Mi or 1.5G"
        )
    number, exponent, suffix = match.groups()
    return Decimal(number + (exponent or "")) * _SUFFIXES[suffix or ""]


def whole(quantity: Quantity) -> int:
    """Return the amount in whole units (bytes, Pods), rounded up."""
    return int(parse(quantity).to_integral_value(ROUND_CEILING))


def milli(quantity: Quantity) -> int:
    """Return the amount in thousandths (milli-CPUs), rounded up."""
    return int((parse(quantity) * 1000).to_integral_value(ROUND_CEILING))


def human_bytes(amount: int) -> str:
    """Write a number of bytes for a person: `1.4 GiB`."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:  # noqa: PLR2004 - the base of the units above
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def written(amount: Decimal, *, binary: bool = False) -> str:
    """Write *amount* as Kubernetes does: in whole numbers of the largest unit that allows it."""
    in_binary = binary and amount == amount.to_integral_value() and abs(amount) >= _SUFFIXES["Ki"]
    if not amount:
        return "0"
    for unit in _BINARY if in_binary else _DECIMAL:
        number = amount / _SUFFIXES[unit]
        if number == number.to_integral_value():
            return f"{number:.0f}{unit}"
    return f"{(amount * _SUFFIXES['G']).to_integral_value(ROUND_CEILING):.0f}n"


def is_binary(quantity: Quantity) -> bool:
    """Whether *quantity* counts in powers of 1024."""
    return str(quantity).endswith("i")
