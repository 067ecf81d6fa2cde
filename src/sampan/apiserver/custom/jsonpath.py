"""JSON paths, as a CustomResourceDefinition may have them. Pure.

Only what Kubernetes allows there: fields, quoted fields, indices, `[*]` and simple filters
(`[?(@.type=="Ready")]`). Source: client-go, util/jsonpath.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

_STEP: Final = re.compile(
    r"""\.(?P<field>[^.\[\]'"\s]+)
      | \[\s*'(?P<quoted>(?:[^'\\]|\\.)*)'\s*\] | \[\s*"(?P<double>(?:[^"\\]|\\.)*)"\s*\]
      | \[(?P<index>-?\d+)\] | (?P<every>\[\*\]|\.\*)
      | \[\?\(\s*@(?P<path>[^=!<>]*?)\s*(?P<op>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)]*?)\s*\)\]""",
    re.VERBOSE,
)
_ESCAPED: Final = re.compile(r"\\(.)")

Step = Callable[[Any], Iterator[Any]]


class BadPath(ValueError):
    """A JSON path that cannot be read."""


def parse(path: str) -> tuple[Step, ...]:
    """Read a JSON path such as `.spec.replicas`; raise BadPath if it is none."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise BadPath(f"{path!r} cannot be read from {path[at:]!r} on")
        steps.append(_step(match))
        at = match.end()
    if not steps:
        raise BadPath("a JSON path names a field, such as .spec.replicas")
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    if match["every"]:
        return _every
    if match["index"]:
        return _index(int(match["index"]))
    if match["op"]:
        return _matching(match["path"], match["op"], match["value"])
    name = match["field"] or match["quoted"] or match["double"] or ""
    return _field(_ESCAPED.sub(r"\1", name))


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, Mapping) and name in value:
            yield value[name]

    return step


def _index(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _matching(path: str, operator: str, wanted: str) -> Step:
    inner = parse(path) if path else ()
    literal = wanted[1:-1] if wanted[:1] in {'"', "'"} else wanted

    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            held = any(text(part) == literal for part in found(inner, item))
            if held is (operator == "=="):
                yield item

    return step


def found(steps: Sequence[Step], value: Any) -> Sequence[Any]:
    """All that the path leads to in *value*."""
    values = [value]
    for step in steps:
        values = [inner for outer in values for inner in step(outer)]
    return values


def text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
