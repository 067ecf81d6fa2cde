"""Named volumes as claims: what a service writes there outlives it, on the node where it began."""

from typing import Any, Final

from sampan.compose import units
from sampan.compose.document import Node
from sampan.compose.names import dns_label, split_labels
from sampan.compose.project import Project

Object = dict[str, Any]
SIZE: Final = "1Gi"
"""What a claim asks for where the file says nothing; a directory of a node has no limit."""
_LOCAL: Final = frozenset({"local", "default"})


def claim_of(name: str, at: Node, project: Project) -> tuple[str, Object | None]:
    """Return the claim's name, and the claim unless it exists outside of the file."""
    declared = project.top("volumes")
    if name not in declared:
        at.fail(f"there is no volume {name!r} at the top level of the file")
    volume = declared[name]
    named = None if volume.empty else volume.get("name")
    claim = dns_label(named.text(), named) if named else _claim_name(name, volume)
    if volume.empty:
        return claim, _claim(claim, {}, {}, SIZE, "")
    if (external := volume.get("external")) and external.flag():
        return claim, None
    labels, annotations = split_labels(volume.get("labels"))
    return claim, _claim(claim, labels, annotations, _size(volume), _class(volume))


def _claim_name(name: str, at: Node) -> str:
    """Compose's names may have underscores and dots, those of claims may not."""
    return dns_label(name.lower().replace("_", "-").replace(".", "-"), at)


def _size(volume: Node) -> str:
    size = SIZE
    options = volume.get("driver_opts")
    for key, value in options.mapping().items() if options else ():
        if key != "size":
            value.fail(f"the option {key!r} is refused: only `size` is known")
        size = units.size(value)
    return size


def _class(volume: Node) -> str:
    driver = volume.get("driver")
    return "" if driver is None or driver.text() in _LOCAL else driver.text()


def _claim(
    name: str, labels: dict[str, str], annotations: dict[str, str], size: str, named: str
) -> Object:
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if named:
        spec["storageClassName"] = named
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": spec,
    }
