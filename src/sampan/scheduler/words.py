"""Amounts of resources in words that a person reads at a glance."""

from sampan.api.quantities import human_bytes


def written(resource: str, amount: int, *, unit: bool = False) -> str:
    """Write `2 GiB memory` or `0.5 CPU`; without *unit*, only `1.4 GiB` or `0.2`."""
    if resource == "cpu":
        return f"{amount / 1000:.3g}" + (" CPU" if unit else "")
    if resource in {"memory", "ephemeral-storage"} or resource.startswith("hugepages-"):
        size = human_bytes(amount).replace(".0 ", " ")
        return f"{size} {resource}" if unit else size
    return f"{amount} {resource}" if unit else str(amount)
