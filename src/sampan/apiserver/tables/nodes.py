"""Nodes."""

from datetime import datetime
from typing import Final

from sampan.api.objects import Object
from sampan.apiserver.tables.columns import AGE, NAME, NONE, UNKNOWN, Column, at, joined, text, wide

_ROLE: Final = "node-role.kubernetes.io/"
_OLD_ROLE: Final = "kubernetes.io/role"


def _status(node: Object, _now: datetime) -> str:
    words = [
        "Ready" if condition.get("status") == "True" else "NotReady"
        for condition in at(node, "status", "conditions", default=())
        if condition.get("type") == "Ready"
    ] or ["Unknown"]
    if at(node, "spec", "unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(node: Object, _now: datetime) -> str:
    labels = at(node, "metadata", "labels", default={})
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)}
    if named := labels.get(_OLD_ROLE):
        roles.add(named)
    return joined(sorted(roles - {""}))


def _address(node: Object, type_: str) -> str:
    for address in at(node, "status", "addresses", default=()):
        if address.get("type") == type_:
            return str(address.get("address", ""))
    return NONE


COLUMNS: Final = (
    NAME,
    Column("Status", _status),
    Column("Roles", _roles),
    AGE,
    text("Version", "status", "nodeInfo", "kubeletVersion"),
    wide("Internal-IP", lambda node, _: _address(node, "InternalIP")),
    wide("External-IP", lambda node, _: _address(node, "ExternalIP")),
    wide("OS-Image", lambda n, _: at(n, "status", "nodeInfo", "osImage") or UNKNOWN),
    wide("Kernel-Version", lambda n, _: at(n, "status", "nodeInfo", "kernelVersion") or UNKNOWN),
    wide(
        "Container-Runtime",
        lambda n, _: at(n, "status", "nodeInfo", "containerRuntimeVersion") or UNKNOWN,
    ),
)
