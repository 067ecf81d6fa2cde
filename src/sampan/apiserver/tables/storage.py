"""Volumes, claims and classes of storage."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sampan.api.objects import Object
from sampan.apiserver.tables.columns import AGE, NAME, UNSET, Column, at, joined, shown, text, wide

_DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
_SHORT: Final = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX",
                 "ReadWriteOncePod": "RWOP"}  # fmt: skip


def _modes(modes: Iterable[str] | None) -> str:
    return joined((_SHORT.get(mode, mode) for mode in modes or ()), "")


def _claim(volume: Object, _now: datetime) -> str:
    claim = at(volume, "spec", "claimRef")
    return f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else ""


def _phase(obj: Object, _now: datetime) -> str:
    if at(obj, "metadata", "deletionTimestamp"):
        return "Terminating"
    return str(at(obj, "status", "phase", default=""))


VOLUMES: Final = (
    NAME,
    text("Capacity", "spec", "capacity", "storage"),
    Column("Access Modes", lambda obj, _: _modes(at(obj, "spec", "accessModes"))),
    text("Reclaim Policy", "spec", "persistentVolumeReclaimPolicy"),
    Column("Status", _phase),
    Column("Claim", _claim),
    text("StorageClass", "spec", "storageClassName"),
    text("VolumeAttributesClass", "spec", "volumeAttributesClassName", default=UNSET),
    text("Reason", "status", "reason"),
    AGE,
    wide("VolumeMode", lambda obj, _: at(obj, "spec", "volumeMode") or UNSET),
)
CLAIMS: Final = (
    NAME,
    Column("Status", _phase),
    text("Volume", "spec", "volumeName"),
    text("Capacity", "status", "capacity", "storage"),
    Column("Access Modes", lambda obj, _: _modes(at(obj, "status", "accessModes"))),
    text("StorageClass", "spec", "storageClassName"),
    text("VolumeAttributesClass", "spec", "volumeAttributesClassName", default=UNSET),
    AGE,
    wide("VolumeMode", lambda obj, _: at(obj, "spec", "volumeMode") or UNSET),
)


def _class_name(obj: Object, _now: datetime) -> str:
    chosen = at(obj, "metadata", "annotations", default={}).get(_DEFAULT) == "true"
    return f"{at(obj, 'metadata', 'name')} (default)" if chosen else at(obj, "metadata", "name")


CLASSES: Final = (
    Column(NAME.name, _class_name, format=NAME.format),
    text("Provisioner", "provisioner"),
    text("ReclaimPolicy", "reclaimPolicy", default="Delete"),
    text("VolumeBindingMode", "volumeBindingMode", default="Immediate"),
    Column("AllowVolumeExpansion", lambda obj, _: shown(obj.get("allowVolumeExpansion", False))),
    AGE,
)
