"""Durations and sizes as Compose writes them: `1m30s`, `250ms`, `64mb`."""

import math
import re
from decimal import Decimal
from typing import Final

from sampan.compose.document import Node

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_SECONDS: Final = {
    "us": Decimal("1e-6"), "ms": Decimal("1e-3"), "s": Decimal(1), "m": Decimal(60),
    "h": Decimal(3600), "d": Decimal(86400),
}  # fmt: skip
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS: Final = "kmgt"


def seconds(node: Node) -> Decimal:
    """Read a duration; a bare number is refused, as Compose does."""
    text = node.text()
    parts = _DURATION.findall(text)
    if text == "0":
        return Decimal(0)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        node.fail(f"{text!r} is no duration: write 10s, 1m30s or 500ms")
    return sum((Decimal(number) * _SECONDS[unit] for number, unit in parts), Decimal(0))


def whole_seconds(node: Node, least: int = 0) -> int:
    """Round a duration up to what Kubernetes can say."""
    return max(least, math.ceil(seconds(node)))


def size(node: Node) -> str:
    """Read a size in bytes; `k`, `m` and `g` are powers of 1024, as in Docker."""
    if not (match := _SIZE.fullmatch(node.text())):
        node.fail(f"{node.raw!r} is no size: write bytes, or 64m, 1.5g, 512kb")
    number, unit = match.groups()
    power = _POWERS.index(unit.lower()) + 1 if unit else 0
    return str(int(Decimal(number) * 1024**power))


def cpus(node: Node) -> str:
    """Read a number of CPUs as a Kubernetes quantity."""
    text = node.text()
    if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", text):
        node.fail(f"{text!r} is no number of CPUs: write 2 or 0.5")
    return f"{math.ceil(Decimal(text) * 1000)}m"
