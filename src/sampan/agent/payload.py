"""What the files of configMap, secret, downwardAPI and projected volumes are; pure.

Each of these volumes is a list of sources; the files of all are laid into one directory.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from sampan.agent.env import (
    ConfigError,
    Found,
    Reference,
    Source,
    Surroundings,
    contents,
    pod_field,
    resource_field,
)
from sampan.agent.spec import NodePod
from sampan.api.objects import Object

DEFAULT_MODE: Final = 0o644
TOKEN_MODE: Final = 0o600
TOKEN_SECONDS: Final = 3600
KINDS: Final = frozenset({"configMap", "secret", "downwardAPI", "projected"})


class File(Struct, frozen=True):
    data: bytes
    mode: int = DEFAULT_MODE
    uid: int = 0


class TokenSource(Struct, frozen=True):
    """One ServiceAccount token that a volume wants."""

    path: str
    audience: str = ""
    seconds: int = TOKEN_SECONDS


def is_payload(volume: Object) -> bool:
    return any(kind in volume for kind in KINDS)


def sources(volume: Object) -> Iterator[tuple[str, Object]]:
    """Yield (kind, source) of a volume, which for a projected one may be many."""
    if "projected" in volume:
        for entry in volume["projected"].get("sources") or ():
            yield from ((kind, source) for kind, source in entry.items() if source)
        return
    for kind in KINDS:
        if kind in volume:
            yield kind, volume[kind]


def references(volumes: Iterable[Object]) -> set[Reference]:
    """The ConfigMaps and Secrets that the volumes read."""
    every = (pair for volume in volumes if is_payload(volume) for pair in sources(volume))
    return {ref for kind, source in every if (ref := _reference(kind, source))}


def _reference(kind: str, source: Object) -> Reference | None:
    if kind == "configMap":
        return Reference("configmap", source["name"])
    if kind == "secret":
        return Reference("secret", source.get("secretName") or source["name"])
    return None


def tokens(volume: Object) -> list[TokenSource]:
    return [_token(source) for kind, source in sources(volume) if kind == "serviceAccountToken"]


def _token(source: Object) -> TokenSource:
    seconds = int(source.get("expirationSeconds") or TOKEN_SECONDS)
    return TokenSource(source["path"], source.get("audience") or "", seconds)


def payload(
    volume: Object, around: Surroundings, found: Found, issued: Mapping[TokenSource, str]
) -> dict[str, File]:
    """Return the files by path; raise ConfigError when something required is missing."""
    kind = next(kind for kind in KINDS if kind in volume)
    default = volume[kind].get("defaultMode")
    default = DEFAULT_MODE if default is None else default
    files: dict[str, File] = {}
    for source_kind, source in sources(volume):
        files |= _files(source_kind, source, default, around, found, issued)
    for path in files:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ConfigError(f"volume {volume['name']}: path {path!r} leads out of the volume")
    return files


def _files(
    kind: str,
    source: Object,
    mode: int,
    around: Surroundings,
    found: Found,
    issued: Mapping[TokenSource, str],
) -> dict[str, File]:
    if ref := _reference(kind, source):
        return _object_files(ref, source, mode, found)
    if kind == "downwardAPI":
        return _downward_files(source, mode, around)
    if kind == "serviceAccountToken":
        return {source["path"]: _token_file(issued[_token(source)], mode, around.pod)}
    raise ConfigError(f"projected volume: this node does not know the source {kind}")


def _object_files(ref: Reference, source: Object, mode: int, found: Found) -> dict[str, File]:
    obj = found.get(ref)
    if obj is None:
        if source.get("optional"):
            return {}
        raise ConfigError(f'{ref.source} "{ref.name}" not found')
    data = contents(ref.source, obj)
    items = source.get("items")
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    files = {}
    for item in items:
        if item["key"] in data:
            files[item["path"]] = File(data[item["key"]], _mode(item, mode))
        elif not source.get("optional"):
            raise ConfigError(f"{_noun(ref.source)} {ref.name} has no key {item['key']!r}")
    return files


def _noun(source: Source) -> str:
    return "ConfigMap" if source == "configmap" else "Secret"


def _mode(item: Object, default: int) -> int:
    mode = item.get("mode")
    return default if mode is None else int(mode)


def _downward_files(source: Object, mode: int, around: Surroundings) -> dict[str, File]:
    files = {}
    for item in source.get("items") or ():
        if ref := item.get("fieldRef"):
            text = pod_field(ref["fieldPath"], around)
        else:
            ref = item["resourceFieldRef"]
            container = around.pod.container(ref.get("containerName") or "")
            if container is None:
                raise ConfigError(f"downwardAPI: no container {ref.get('containerName')!r}")
            text = resource_field(container, ref, around.node)
        files[item["path"]] = File(text.encode(), _mode(item, mode))
    return files


def _token_file(token: str, mode: int, pod: NodePod) -> File:
    """A token is for the container's user alone, where it is known who that is."""
    context = pod.spec.security_context
    if context.get("fsGroup") is not None:
        return File(token.encode(), TOKEN_MODE)
    users = {
        c.security_context.get("runAsUser", context.get("runAsUser")) for c in pod.every_container
    }
    if len(users) == 1 and (user := users.pop()) is not None:
        return File(token.encode(), TOKEN_MODE, user)
    return File(token.encode(), mode)
