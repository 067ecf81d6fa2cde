"""A Compose file as a tree in which every value knows where it stands.

The reader is YAML's own composer: it keeps lines and the text of scalars, so that `1.10` stays a
version and every complaint can name `file:line`. Variables are put in while reading, as Compose
does, before anything is merged.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode

from sampan.compose.interpolate import InterpolationError, interpolate

Environment: TypeAlias = Mapping[str, str]
_TAG: Final = "tag:yaml.org,2002:"
_DEEPEST: Final = 50
_TRUE: Final = frozenset({"true", "yes", "on", "y"})
_FALSE: Final = frozenset({"false", "no", "off", "n"})


@dataclass(frozen=True, slots=True)
class Position:
    file: Path
    line: int
    base: Path
    """What relative paths at this place start from."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    at: Position
    text: str

    def __str__(self) -> str:
        return f"{self.at}: {self.text}"


class ComposeError(Exception):
    """The file cannot be used; each problem names its place and what to do."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(slots=True)
class Problems:
    """Gathers what is wrong, so that a person sees all of it at once."""

    found: list[Problem] = field(default_factory=list)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        try:
            yield
        except ComposeError as error:
            self.found += error.problems

    def check(self) -> None:
        if self.found:
            raise ComposeError(list(dict.fromkeys(self.found)))


Value: TypeAlias = "dict[str, Node] | list[Node] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class Node:
    """A value, its place in the file, and its *path* in the document (`services.web.image`)."""

    value: Value
    at: Position
    path: str
    raw: str = ""
    """A scalar as it was written."""

    def fail(self, text: str) -> NoReturn:
        raise ComposeError([Problem(self.at, f"{self.path}: {text}" if self.path else text)])

    @property
    def empty(self) -> bool:
        return self.value is None

    def mapping(self) -> dict[str, "Node"]:
        """Its entries; nothing at all counts as none."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            self.fail("must be a mapping (KEY: VALUE)")
        return self.value

    def sequence(self) -> list["Node"]:
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            self.fail("must be a list")
        return self.value

    def get(self, *keys: str) -> "Node | None":
        """Go down *keys*; None where one is missing or says nothing."""
        node: Node | None = self
        for key in keys:
            node = node.mapping().get(key) if node else None
        return node if node and not node.empty else None

    def text(self) -> str:
        if self.value is None or isinstance(self.value, (dict, list)):
            self.fail("must be a text")
        return self.raw

    def texts(self) -> list[str]:
        return [item.text() for item in self.sequence()]

    def integer(self) -> int:
        try:
            return int(self.text(), 0 if self.raw.startswith(("0x", "0o", "0b")) else 10)
        except ValueError:
            self.fail(f"must be a whole number, not {self.raw!r}")

    def flag(self) -> bool:
        word = self.text().lower()
        if word not in _TRUE | _FALSE:
            self.fail(f"must be true or false, not {self.raw!r}")
        return word in _TRUE

    def choice(self, *known: str) -> str:
        if self.text() not in known:
            self.fail(f"must be one of {', '.join(known)}, not {self.raw!r}")
        return self.raw

    def child(self, key: str, value: Value, raw: str | None = None) -> "Node":
        """A value made from this one's text, at the same place."""
        text = raw if raw is not None else value if isinstance(value, str) else ""
        return Node(value, self.at, f"{self.path}.{key}" if self.path else key, text)

    def with_value(self, value: Value) -> "Node":
        return replace(self, value=value)


def read(
    text: str,
    *,
    file: Path,
    base: Path,
    env: Environment,
    warn: Callable[[Problem], None] = lambda _: None,
) -> Node:
    """Read *text*; variables come from *env*, and *warn* hears of those that are not set."""
    start = Position(file, 1, base)
    try:
        root = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        line = (error.problem_mark.line if error.problem_mark else 0) + 1
        what = error.problem or error.context or str(error)
        raise ComposeError([Problem(Position(file, line, base), f"not YAML: {what}")]) from error
    except YAMLError as error:
        raise ComposeError([Problem(start, f"not YAML: {error}")]) from error
    if root is None:
        raise ComposeError([Problem(start, "the file is empty")])
    return _Reader(file, base, env, warn).build(root, "")


@dataclass(frozen=True, slots=True)
class _Reader:
    file: Path
    base: Path
    env: Environment
    warn: Callable[[Problem], None]

    def build(self, yaml: YamlNode, path: str) -> Node:
        at = self._at(yaml)
        if path.count(".") + path.count("[") > _DEEPEST:
            raise ComposeError([Problem(at, f"{path[:60]}...: nested too deep, or in itself")])
        match yaml:
            case MappingNode():
                self._standard(yaml, at, path)
                return Node(self._mapping(yaml, path), at, path)
            case SequenceNode():
                self._standard(yaml, at, path)
                items = [self.build(y, f"{path}[{i}]") for i, y in enumerate(yaml.value)]
                return Node(items, at, path)
            case ScalarNode():
                return self._scalar(yaml, at, path)
        raise ComposeError([Problem(at, f"{path}: not a value that Compose knows")])

    def _at(self, yaml: YamlNode) -> Position:
        return Position(self.file, yaml.start_mark.line + 1, self.base)

    def _standard(self, yaml: YamlNode, at: Position, path: str) -> None:
        if not str(yaml.tag).startswith(_TAG):
            text = f"{path}: the tag {yaml.tag} is not supported: write the merged value out"
            raise ComposeError([Problem(at, text)])

    def _mapping(self, yaml: MappingNode, path: str) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key_node, value_node in yaml.value:
            if key_node.tag == f"{_TAG}merge":
                for source in self._merged(value_node):
                    for key, value in self._mapping(source, path).items():
                        merged.setdefault(key, value)
                continue
            key = str(key_node.value)
            if key in own:
                text = f"{path or 'the file'}: {key!r} stands here twice"
                raise ComposeError([Problem(self._at(key_node), text)])
            value = self.build(value_node, f"{path}.{key}" if path else key)
            # a block stands below its key, and a person looks for the key
            own[key] = replace(value, at=self._at(key_node))
        return {**{k: v for k, v in merged.items() if k not in own}, **own}

    def _merged(self, yaml: YamlNode) -> list[MappingNode]:
        sources = yaml.value if isinstance(yaml, SequenceNode) else [yaml]
        for source in sources:
            if not isinstance(source, MappingNode):
                raise ComposeError([Problem(self._at(yaml), "<< can merge mappings only")])
        return list(sources)

    def _scalar(self, yaml: ScalarNode, at: Position, path: str) -> Node:
        self._standard(yaml, at, path)
        raw = str(yaml.value)
        kind = str(yaml.tag).removeprefix(_TAG)
        if kind == "null":
            return Node(None, at, path)
        if kind in {"int", "float", "bool"}:
            return Node(_plain(kind, raw), at, path, raw)
        try:
            text = interpolate(raw, self.env, lambda name: self._unset(name, at))
        except InterpolationError as error:
            raise ComposeError([Problem(at, f"{path}: {error}")]) from error
        return Node(text, at, path, text)

    def _unset(self, name: str, at: Position) -> None:
        self.warn(Problem(at, f"${name} is not set: an empty text is used"))


def _plain(kind: str, raw: str) -> Any:
    digits = raw.replace("_", "")
    try:
        if kind == "bool":
            return raw.lower() in _TRUE
        if kind == "float":
            return float(digits)
        return int(digits, 0 if digits.lstrip("+-").startswith(("0x", "0o", "0b")) else 10)
    except ValueError:
        return raw
