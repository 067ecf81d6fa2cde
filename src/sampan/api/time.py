"""Kubernetes' two ways of writing an instant."""

from datetime import UTC, datetime


def timestamp(at: datetime) -> str:
    """Write *at* as metav1.Time: RFC 3339, UTC, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(at: datetime) -> str:
    """Write *at* as metav1.MicroTime: RFC 3339, UTC, six digits."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Read either form back; raise ValueError if it is neither."""
    return datetime.fromisoformat(text)
