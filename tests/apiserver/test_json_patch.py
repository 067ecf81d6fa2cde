"""JSON patch and merge patch, against the RFCs' own words and a simpler model."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.errors import ApiError, BadRequest, Invalid
from sampan.apiserver.patches import json_patch, merge

names = st.sampled_from(["a", "b", "c/d", "e~f", ""])
scalars = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"])
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def operations(draw: st.DrawFn, document: Any) -> dict[str, Any]:
    op = draw(st.sampled_from(["add", "remove", "replace", "test", "copy", "move"]))
    made: dict[str, Any] = {"op": op, "path": draw(pointers(document))}
    if op in {"add", "replace", "test"}:
        made["value"] = draw(documents)
    if op in {"copy", "move"}:
        made["from"] = draw(pointers(document))
    return made


@st.composite
def pointers(draw: st.DrawFn, document: Any) -> str:
    """Mostly a place that is there."""
    path = ""
    for _ in range(draw(st.integers(0, 3))):
        if isinstance(document, dict) and document and draw(st.booleans()):
            part = draw(st.sampled_from(sorted(document)))
            document = document[part]
        elif isinstance(document, list) and document and draw(st.booleans()):
            part = str(draw(st.integers(0, len(document) - 1)))
            document = document[int(part)]
        else:
            part, document = draw(names | st.sampled_from(["0", "1", "-"])), None
        path += "/" + part.replace("~", "~0").replace("/", "~1")
    return path


class Refused(Exception):
    pass


class Model:
    """What operations mean, done in place on a copy, with no thought for speed."""

    def __init__(self, document: Any) -> None:
        self.root: Any = {"root": deepcopy(document)}

    def result(self, operation: dict[str, Any]) -> Any:
        getattr(self, f"_{operation['op']}")(parts(operation["path"]), operation)
        return self.root["root"]

    def _add(self, path: list[str], operation: dict[str, Any]) -> None:
        self.put(path, operation["value"])

    def _remove(self, path: list[str], _operation: dict[str, Any]) -> None:
        self.take(path)

    def _replace(self, path: list[str], operation: dict[str, Any]) -> None:
        self.get(path)
        holder = self.get(path[:-1]) if path != ["root"] else self.root
        holder[at(holder, path[-1])] = operation["value"]

    def _test(self, path: list[str], operation: dict[str, Any]) -> None:
        if not same(self.get(path), operation["value"]):
            raise Refused

    def _copy(self, path: list[str], operation: dict[str, Any]) -> None:
        self.put(path, deepcopy(self.get(parts(operation["from"]))))

    def _move(self, path: list[str], operation: dict[str, Any]) -> None:
        source = parts(operation["from"])
        if path[: len(source)] == source and path != source:
            raise Refused
        self.put(path, self.take(source))

    def get(self, path: list[str]) -> Any:
        found = self.root
        for part in path:
            try:
                found = found[at(found, part)]
            except (KeyError, IndexError, TypeError) as error:
                raise Refused from error
        return found

    def put(self, path: list[str], value: Any) -> None:
        holder = self.get(path[:-1])
        if isinstance(holder, list):
            place = len(holder) if path[-1] == "-" else at(holder, path[-1])
            if place > len(holder):
                raise Refused
            holder.insert(place, value)
        elif isinstance(holder, dict):
            holder[path[-1]] = value
        else:
            raise Refused

    def take(self, path: list[str]) -> Any:
        value, holder = self.get(path), self.get(path[:-1])
        if path == ["root"]:
            holder["root"] = None
        else:
            del holder[at(holder, path[-1])]
        return value


def parts(pointer: str) -> list[str]:
    return ["root", *(p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:])]


def at(holder: Any, part: str) -> Any:
    if not isinstance(holder, list):
        return part
    if not part.isdigit() or (part != "0" and part[0] == "0"):
        raise Refused
    return int(part)


def same(one: Any, other: Any) -> bool:
    return repr(sorted_deep(one)) == repr(sorted_deep(other))


def sorted_deep(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted_deep(value[key]) for key in sorted(value)}
    return [sorted_deep(item) for item in value] if isinstance(value, list) else value


@given(st.data())
def test_every_operation_does_what_a_simple_model_does(data: st.DataObject) -> None:
    document = data.draw(documents)
    operation = data.draw(operations(document))
    before = deepcopy(document)
    try:
        wanted: Any = Model(document).result(operation)
    except Refused:
        with pytest.raises(ApiError):
            json_patch.apply(document, [operation])
    else:
        assert same(json_patch.apply(document, [operation]), wanted)
    assert document == before


def test_operations_build_on_each_other() -> None:
    patch = [
        {"op": "add", "path": "/list", "value": []},
        {"op": "add", "path": "/list/-", "value": 1},
        {"op": "add", "path": "/list/0", "value": 0},
        {"op": "move", "from": "/old", "path": "/new"},
    ]
    assert json_patch.apply({"old": "x"}, patch) == {"list": [0, 1], "new": "x"}


def test_true_is_not_one() -> None:
    with pytest.raises(Invalid, match="testing /a failed"):
        json_patch.apply({"a": 1}, [{"op": "test", "path": "/a", "value": True}])


def test_a_missing_place_is_named() -> None:
    with pytest.raises(Invalid, match="there is nothing at /spec/replicas"):
        json_patch.apply({"spec": {}}, [{"op": "remove", "path": "/spec/replicas"}])


@pytest.mark.parametrize(
    "patch",
    [
        {"op": "add"},
        "text",
        [{"path": "/a"}],
        [{"op": "jump", "path": "/a"}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
    ],
)
def test_what_is_no_json_patch_is_refused(patch: Any) -> None:
    with pytest.raises(BadRequest):
        json_patch.apply({"a": 1}, patch)


def merge_model(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2, word by word."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    target = dict(target)
    for name, value in patch.items():
        if value is None:
            if name in target:
                del target[name]
        else:
            target[name] = merge_model(target.get(name), value)
    return target


@given(documents, documents)
def test_a_merge_patch_does_what_the_rfc_says_and_nothing_in_place(target: Any, patch: Any) -> None:
    before = deepcopy((target, patch))
    assert merge.apply(target, patch) == merge_model(target, patch)
    assert (target, patch) == before
