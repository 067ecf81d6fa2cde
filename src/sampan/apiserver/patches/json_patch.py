"""JSON patch (RFC 6902) with JSON pointers (RFC 6901)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sampan.api.errors import BadRequest, Invalid

_END: Final = "-"


def apply(target: Any, patch: Any) -> Any:
    """Carry out the operations in order; raise Invalid for one that does not fit *target*."""
    if not isinstance(patch, Sequence) or isinstance(patch, str):
        raise BadRequest("a JSON patch is a list of operations, such as [{op, path, value}]")
    for operation in patch:
        if not isinstance(operation, Mapping) or "op" not in operation:
            raise BadRequest(f"{operation!r} is not a JSON patch operation: it has no op")
        target = _carried_out(target, operation)
    return target


def _carried_out(target: Any, operation: Mapping[str, Any]) -> Any:
    path = pointer(_member(operation, "path"))
    match operation["op"]:
        case "add":
            return _add(target, path, _member(operation, "value"))
        case "remove":
            return _remove(target, path)
        case "replace":
            return _replace(target, path, _member(operation, "value"))
        case "move":
            source = pointer(_member(operation, "from"))
            if path[: len(source)] == source and path != source:
                raise Invalid(f"cannot move {_shown(source)} into itself")
            value = _get(target, source)
            return _add(_remove(target, source), path, value)
        case "copy":
            return _add(target, path, _get(target, pointer(_member(operation, "from"))))
        case "test":
            if not _equal(_get(target, path), _member(operation, "value")):
                raise Invalid(f"the server rejected our request: testing {_shown(path)} failed")
            return target
    raise BadRequest(f"unknown JSON patch operation {operation['op']!r}")


def _member(operation: Mapping[str, Any], name: str) -> Any:
    if name not in operation:
        raise BadRequest(f"JSON patch operation {operation['op']!r} needs {name!r}")
    return operation[name]


def pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise BadRequest(f"{text!r} is not a JSON pointer: it must be empty or begin with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _get(target: Any, path: Sequence[str]) -> Any:
    for depth, part in enumerate(path):
        target = _child(target, part, path[: depth + 1])
    return target


def _child(holder: Any, part: str, path: Sequence[str]) -> Any:
    if isinstance(holder, dict) and part in holder:
        return holder[part]
    if isinstance(holder, list):
        return holder[_index(holder, part, path, end=False)]
    raise _absent(path)


def _index(holder: list[Any], part: str, path: Sequence[str], *, end: bool) -> int:
    if end and part == _END:
        return len(holder)
    if not (part.isascii() and part.isdigit()) or (len(part) > 1 and part[0] == "0"):
        raise Invalid(f"{_shown(path)}: {part!r} is not an index of a list")
    if int(part) >= len(holder) + end:
        raise _absent(path)
    return int(part)


def _edited(target: Any, path: Sequence[str], edit: Any, depth: int = 0) -> Any:
    """A copy of *target* in which `edit(holder, last part)` changed the holder of *path*."""
    part = path[depth]
    copied = target.copy() if isinstance(target, dict | list) else target
    if depth == len(path) - 1:
        edit(copied, part)
        return copied
    child = _edited(_child(target, part, path[: depth + 1]), path, edit, depth + 1)
    if isinstance(copied, list):
        copied[int(part)] = child
    else:
        copied[part] = child
    return copied


def _add(target: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value

    def edit(holder: Any, part: str) -> None:
        if isinstance(holder, list):
            holder.insert(_index(holder, part, path, end=True), value)
        elif isinstance(holder, dict):
            holder[part] = value
        else:
            raise _absent(path)

    return _edited(target, path, edit)


def _remove(target: Any, path: Sequence[str]) -> Any:
    if not path:
        return None
    _get(target, path)

    def edit(holder: Any, part: str) -> None:
        del holder[int(part) if isinstance(holder, list) else part]

    return _edited(target, path, edit)


def _replace(target: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    _get(target, path)

    def edit(holder: Any, part: str) -> None:
        holder[int(part) if isinstance(holder, list) else part] = value

    return _edited(target, path, edit)


def _equal(one: Any, other: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _absent(path: Sequence[str]) -> Invalid:
    return Invalid(f"the server rejected our request: there is nothing at {_shown(path)}")


def _shown(path: Sequence[str]) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path) or '""'
