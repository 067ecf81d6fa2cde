"""The form of an answer (`Accept`) and of a request's body (`Content-Type`).

Answers are JSON. A client that prefers protobuf gets the JSON that it also accepts; a Table or
metadata only is given to those who ask for it first.
"""

from functools import lru_cache
from typing import Any, Final

import orjson
import yaml  # type: ignore[import-untyped]
from msgspec import Struct

from sampan.api.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from sampan.apiserver.http import protobuf

JSON: Final = "application/json"
YAML_TYPE: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
_JSON_RANGES: Final = frozenset({JSON, "application/*", "*/*"})
_KNOWN_FORMS: Final = frozenset({
    "", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList",
})  # fmt: skip
_MEANT_VERSIONS: Final = frozenset({"", "v1", "v1beta1", "v2"})
_YAML_RANGES: Final = frozenset({YAML_TYPE, "application/x-yaml", "text/yaml"})
DEEPEST: Final = 200


class Accepted(Struct, frozen=True):
    """*form* is the kind that `as=` asks for, "" for the object itself."""

    form: str = ""
    version: str = ""
    media: str = JSON

    @property
    def is_table(self) -> bool:
        return self.form == "Table"

    @property
    def is_metadata(self) -> bool:
        return self.form.startswith("PartialObjectMetadata")


@lru_cache(maxsize=256)
def accepted(header: str) -> Accepted:
    """Choose the first form of an `Accept` header that is served; raise NotAcceptable if none."""
    if not header.strip():
        return Accepted()
    ranges = sorted(map(_media_range, header.split(",")), key=lambda r: -r[1])
    for media, _, parameters in ranges:
        form = parameters.get("as", "")
        version = parameters.get("v", "")
        if form not in _KNOWN_FORMS or version not in _MEANT_VERSIONS:
            continue
        if media in _JSON_RANGES:
            return Accepted(form, version)
        if media in _YAML_RANGES and not form:
            return Accepted(media=YAML_TYPE)
    raise NotAcceptable(
        f"only the following media types are accepted: {JSON}, {YAML_TYPE} "
        f"(the request accepts {header!r})"
    )


def _media_range(text: str) -> tuple[str, float, dict[str, str]]:
    media, *rest = (part.strip() for part in text.split(";"))
    parameters = dict(part.partition("=")[::2] for part in rest)
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 0.0
    return media.lower(), quality, parameters


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower() or JSON


def decode(data: bytes, content_type: str) -> Any:
    """Read a request's body; raise BadRequest or UnsupportedMediaType with what is wrong."""
    media = media_type(content_type)
    if media == JSON or media.endswith("+json"):
        return from_json(data)
    if media == YAML_TYPE or media.endswith("+yaml"):
        return from_yaml(data)
    if media == PROTOBUF:
        return protobuf.decode(data)
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: "
        f"{JSON}, {YAML_TYPE}, {PROTOBUF} (got {media!r})"
    )


def from_json(data: bytes) -> Any:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body of the request is not valid JSON: {error}") from error
    if data.count(b"{") + data.count(b"[") > DEEPEST:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Raise BadRequest for what nests deeper than any object does, and than can be written out."""
    level: list[Any] = [[value]]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise BadRequest(f"the body of the request is nested deeper than {DEEPEST} levels")


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]
    """Kubernetes' YAML has no dates: `2024-01-01` is a string."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.CSafeLoader.construct_yaml_str)


def from_yaml(data: bytes) -> Any:
    """Read one YAML document, or JSON. Aliases are refused: a short text could mean gigabytes."""
    if data.lstrip()[:1] in {b"{", b"["}:
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
        else:
            return from_json(data)
    try:
        _check_events(data)
        plain = orjson.dumps(yaml.load(data, _Loader), option=orjson.OPT_NON_STR_KEYS)  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise BadRequest(f"the body of the request is not valid YAML: {error}") from error
    return from_json(plain)


def _check_events(data: bytes) -> None:
    """Raise BadRequest for what costs more to read than its size lets one expect."""
    depth = 0
    for event in yaml.parse(data, _Loader):
        if isinstance(event, yaml.AliasEvent):
            raise BadRequest("the body of the request uses YAML aliases: write the values out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise BadRequest(f"the body of the request is nested deeper than {DEEPEST} levels")


def as_object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadRequest("the body of the request is not an object: send a JSON or YAML mapping")
    return body
