"""Namespaces, configuration, identities, and what else a cluster is run with."""

from datetime import datetime
from typing import Final

from sampan.api.objects import Object
from sampan.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    Column,
    at,
    joined,
    number,
    shown,
    text,
    wide,
)

NAMESPACES: Final = (NAME, text("Status", "status", "phase"), AGE)


def _size(*fields: str) -> Column:
    def count(obj: Object, _now: datetime) -> int:
        return sum(len(obj.get(field) or ()) for field in fields)

    return Column("Data", count, "integer")


CONFIGMAPS: Final = (NAME, _size("data", "binaryData"), AGE)
SECRETS: Final = (NAME, text("Type", "type"), _size("data"), AGE)
SERVICE_ACCOUNTS: Final = (
    NAME,
    Column("Secrets", lambda obj, _: len(obj.get("secrets") or ()), "integer"),
    AGE,
)
LEASES: Final = (NAME, text("Holder", "spec", "holderIdentity"), AGE)
PRIORITY_CLASSES: Final = (
    NAME,
    number("Value", "value"),
    Column("Global-Default", lambda obj, _: shown(obj.get("globalDefault", False))),
    AGE,
    text("PreemptionPolicy", "preemptionPolicy"),
)


def _condition(request: Object, _now: datetime) -> str:
    types = {c.get("type") for c in at(request, "status", "conditions", default=())}
    words = [word for word in ("Approved", "Denied", "Failed") if word in types] or ["Pending"]
    if at(request, "status", "certificate"):
        words.append("Issued")
    return ",".join(words)


CERTIFICATE_REQUESTS: Final = (
    NAME,
    AGE,
    text("SignerName", "spec", "signerName", default=NONE),
    text("Requestor", "spec", "username"),
    text("RequestedDuration", "spec", "expirationSeconds", default=NONE),
    Column("Condition", _condition),
)
ROLES: Final = (
    NAME,
    Column("Created At", lambda obj, _: at(obj, "metadata", "creationTimestamp")),
)


def _role(binding: Object, _now: datetime) -> str:
    return f"{at(binding, 'roleRef', 'kind')}/{at(binding, 'roleRef', 'name')}"


def _subjects(kind: str) -> Column:
    def names(binding: Object, _now: datetime) -> str:
        found = [one for one in binding.get("subjects") or () if one.get("kind") == kind]
        return joined(
            (f"{one['namespace']}/{one['name']}" if one.get("namespace") else one["name"]
             for one in found), "",
        )  # fmt: skip

    return wide(f"{kind}s", names)


BINDINGS: Final = (
    NAME,
    Column("Role", _role),
    AGE,
    _subjects("User"),
    _subjects("Group"),
    _subjects("ServiceAccount"),
)
