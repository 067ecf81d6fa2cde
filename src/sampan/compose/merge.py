"""Several files become one document: short forms are written out, later values win.

Source: Compose Specification, "Merge": mappings merge by key, lists are appended, but commands are
replaced, and mounts, configs and secrets merge by their target.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sampan.compose.document import Node

_PAIRS: Final = (
    ("environment",), ("labels",), ("annotations",), ("sysctls",), ("deploy", "labels"),
)  # fmt: skip
_LISTS: Final = (
    ("env_file",), ("label_file",), ("dns",), ("dns_search",), ("tmpfs",), ("networks", "aliases"),
)  # fmt: skip
_REPLACED: Final = frozenset({"command", "entrypoint", "test"})
_BY_TARGET: Final = frozenset({"volumes", "configs", "secrets"})


def normalised(document: Node) -> Node:
    """Write the short forms of all services out, so that they merge and read alike."""
    services = document.mapping().get("services")
    if services is None:
        return document
    written = {name: _service(service) for name, service in services.mapping().items()}
    return document.with_value(document.mapping() | {"services": services.with_value(written)})


def _service(service: Node) -> Node:
    for keys in _PAIRS:
        service = _rewritten(service, keys, _pairs)
    for keys in _LISTS:
        service = _rewritten(service, keys, _listed)
    service = _rewritten(service, ("depends_on",), _dependencies)
    return _rewritten(service, ("networks",), _names)


def _rewritten(node: Node, keys: tuple[str, ...], write: Callable[[Node], Node]) -> Node:
    if not keys:
        return write(node)
    if not isinstance(node.value, dict) or keys[0] not in node.value:
        return node
    changed = _rewritten(node.value[keys[0]], keys[1:], write)
    return node.with_value(node.value | {keys[0]: changed})


def _pairs(node: Node) -> Node:
    """`["A=1", "B"]` is `{A: 1, B: null}`."""
    if not isinstance(node.value, list):
        return node
    entries: dict[str, Node] = {}
    for item in node.value:
        name, sign, value = item.text().partition("=")
        entries[name] = Node(value if sign else None, item.at, f"{node.path}.{name}", value)
    return node.with_value(entries)


def _listed(node: Node) -> Node:
    if node.value is None or isinstance(node.value, list):
        return node
    return node.with_value([node])


def _dependencies(node: Node) -> Node:
    if not isinstance(node.value, list):
        return node
    started = {"condition": node.child("condition", "service_started")}
    return node.with_value({item.text(): item.with_value(dict(started)) for item in node.value})


def _names(node: Node) -> Node:
    if not isinstance(node.value, list):
        return node
    return node.with_value({item.text(): item.with_value(None) for item in node.value})


def merged(base: Node, over: Node, key: str = "") -> Node:
    """Lay *over* on *base*; both normalised. *key* is the name that they stand under."""
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        return over.with_value(_mappings(base.value, over.value))
    if isinstance(base.value, list) and isinstance(over.value, list) and key not in _REPLACED:
        if key in _BY_TARGET:
            targets = {_target(item): item for item in (*base.value, *over.value)}
            return over.with_value(list(targets.values()))
        seen = {_plain(item) for item in base.value}
        return over.with_value([*base.value, *(i for i in over.value if _plain(i) not in seen)])
    return over


def _mappings(base: Mapping[str, Node], over: Mapping[str, Node]) -> dict[str, Node]:
    together = dict(base)
    for key, value in over.items():
        together[key] = merged(base[key], value, key) if key in base else value
    return together


def _target(mount: Node) -> str:
    if isinstance(mount.value, dict):
        named = mount.get("target") or mount.get("source")
        return named.raw if named else ""
    parts = mount.raw.split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _plain(node: Node) -> str:
    if isinstance(node.value, dict):
        return repr(sorted((key, _plain(value)) for key, value in node.value.items()))
    if isinstance(node.value, list):
        return repr([_plain(item) for item in node.value])
    return node.raw
