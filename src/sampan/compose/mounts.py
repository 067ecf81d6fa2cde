"""What a service sees in its file system: volumes, configs, secrets, memory.

Files of the machine where `sampan up` runs travel as ConfigMaps and Secrets named after their
content; paths of the nodes are mounted as they are.
"""

import base64
import hashlib
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from sampan.compose import units
from sampan.compose.document import Node
from sampan.compose.names import versioned
from sampan.compose.project import Project
from sampan.compose.volumes import claim_of

Object = dict[str, Any]
LARGEST: Final = 1 << 20
"""The most bytes that one ConfigMap or Secret may hold (Kubernetes' limit)."""
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - where POSIX shared memory is, in a container


_PATH: Final = ("/", ".", "~")
"""What a path of a machine begins with; anything else is the name of a volume."""


@dataclass(slots=True)
class Mounts:
    """The parts of a Pod, and the objects that they need."""

    volumes: list[Object] = field(default_factory=list)
    mounts: list[Object] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)

    def add(self, source: Object, target: str, *, read_only: bool = False, sub: str = "") -> None:
        name = f"v{len(self.volumes)}"
        mount: Object = {"name": name, "mountPath": target}
        if read_only:
            mount["readOnly"] = True
        if sub:
            mount["subPath"] = sub
        self.volumes.append({"name": name, **source})
        self.mounts.append(mount)

    @property
    def writes_to_node(self) -> bool:
        """Whether the service can change what another replica, or its successor, sees."""
        both = zip(self.volumes, self.mounts, strict=True)
        return any(
            ("hostPath" in volume or "persistentVolumeClaim" in volume)
            and not mount.get("readOnly")
            for volume, mount in both
        )


def mounts_of(service: Node, project: Project) -> Mounts:
    made = Mounts()
    for volume in _items(service, "volumes"):
        _volume(made, volume, project)
    for tmpfs in _items(service, "tmpfs"):
        _tmpfs(made, tmpfs)
    if shm := service.get("shm_size"):
        made.add(_memory(units.size(shm)), SHARED_MEMORY)
    for kind in ("configs", "secrets"):
        for grant in _items(service, kind):
            _grant(made, kind, grant, project)
    _check_targets(service, made)
    return made


def _items(service: Node, key: str) -> list[Node]:
    node = service.get(key)
    return node.sequence() if node else []


def _check_targets(service: Node, made: Mounts) -> None:
    seen: set[str] = set()
    for mount in made.mounts:
        target = mount["mountPath"]
        if not target.startswith("/"):
            service.fail(f"a mount's target must be an absolute path, not {target!r}")
        if target in seen:
            service.fail(f"two things are mounted at {target}")
        seen.add(target)


def _volume(made: Mounts, volume: Node, project: Project) -> None:
    if isinstance(volume.value, dict):
        _long_volume(made, volume, project)
        return
    source, target, read_only = _short_volume(volume)
    if source and not source.startswith(_PATH):
        _named(made, volume, project, source, target, read_only=read_only)
    elif source:
        _bind(made, volume, source, target, read_only=read_only)
    else:
        made.add({"emptyDir": {}}, target)


def _short_volume(volume: Node) -> tuple[str, str, bool]:
    parts = volume.text().split(":")
    if len(parts) > 3:  # noqa: PLR2004 - source, target, options
        volume.fail("write SOURCE:TARGET, and :ro after it for read-only")
    if len(parts) == 1:
        return "", parts[0], False
    options = set(parts[2].split(",")) if len(parts) == 3 else set()  # noqa: PLR2004
    for option in sorted(options - {"ro", "rw"}):
        volume.fail(f"the option {option!r} is refused: use ro or rw")
    return parts[0], parts[1], "ro" in options


def _long_volume(made: Mounts, volume: Node, project: Project) -> None:
    kind, source, target = volume.get("type"), volume.get("source"), volume.get("target")
    if kind is None or target is None:
        volume.fail("`type` and `target` are needed")
    read_only = (flag := volume.get("read_only")) is not None and flag.flag()
    match kind.choice("bind", "volume", "tmpfs", "cluster", "npipe", "image"):
        case "tmpfs":
            size = volume.get("tmpfs", "size")
            made.add(_memory(units.size(size) if size else ""), target.text())
        case "volume":
            _volume_mount(made, volume, project, target.text(), read_only=read_only)
        case "bind" if source is not None:
            create = volume.get("bind", "create_host_path")
            if create and not create.flag():
                create.fail("`false` is refused: a missing path of a node is made")
            if not source.text().startswith(_PATH):
                source.fail("a bind mount's source is a path: begin it with / or ./")
            _bind(made, volume, source.text(), target.text(), read_only=read_only)
        case _:
            volume.fail(f"mounts of type {kind.raw} are refused: use bind, volume or tmpfs")


def _volume_mount(
    made: Mounts, volume: Node, project: Project, target: str, *, read_only: bool
) -> None:
    if (nocopy := volume.get("volume", "nocopy")) and not nocopy.flag():
        nocopy.fail("`false` is refused: a volume begins empty, nothing is copied into it")
    subpath, source = volume.get("volume", "subpath"), volume.get("source")
    sub = subpath.text() if subpath else ""
    if source is None:
        made.add({"emptyDir": {}}, target, read_only=read_only, sub=sub)
    else:
        _named(made, source, project, source.text(), target, sub, read_only=read_only)


def _named(
    made: Mounts,
    at: Node,
    project: Project,
    name: str,
    target: str,
    sub: str = "",
    *,
    read_only: bool,
) -> None:
    claim, wanted = claim_of(name, at, project)
    if wanted:
        made.objects.append(wanted)
    made.add({"persistentVolumeClaim": {"claimName": claim}}, target, read_only=read_only, sub=sub)


def _bind(made: Mounts, at: Node, source: str, target: str, *, read_only: bool) -> None:
    if source.startswith("/"):
        made.add({"hostPath": {"path": source}}, target, read_only=read_only)
        return
    path = Path(source).expanduser() if source.startswith("~") else at.at.base / source
    if path.is_dir():
        files = {str(file.relative_to(path)): file for file in _regular(path, at)}
        _copy(made, at, path, files, target)
    elif path.is_file():
        _copy(made, at, path, {path.name: path}, target, single=True)
    else:
        at.fail(f"there is nothing at {path}")


def _regular(directory: Path, at: Node) -> Iterable[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path
        elif not path.is_dir():
            at.fail(f"{path} is no regular file, and cannot be copied to the nodes")


def _copy(
    made: Mounts, at: Node, path: Path, files: dict[str, Path], target: str, *, single: bool = False
) -> None:
    if sum(file.stat().st_size for file in files.values()) > LARGEST:
        at.fail(
            f"{path} holds more than 1 MiB: relative paths are copied to the nodes, which is for "
            "configuration; put it into the image, or name an absolute path of the nodes"
        )
    contents = {name: _read(file, at) for name, file in files.items()}
    modes = {name: _mode_of(file) for name, file in files.items()}
    config = _config_map(path.resolve().name, contents)
    items = [{"key": f"f{i}", "path": name, "mode": modes[name]} for i, name in enumerate(contents)]
    made.objects.append(config)
    source = {"configMap": {"name": config["metadata"]["name"], "items": items}}
    made.add(source, target, read_only=True, sub=path.name if single else "")


def _read(file: Path, at: Node) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        at.fail(f"cannot read {file}: {error.strerror}")


def _mode_of(file: Path) -> int:
    return 0o555 if file.stat().st_mode & stat.S_IXUSR else 0o444


def _config_map(name: str, contents: dict[str, bytes]) -> Object:
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    for index, content in enumerate(contents.values()):
        try:
            data[f"f{index}"] = content.decode()
        except UnicodeDecodeError:
            binary[f"f{index}"] = base64.b64encode(content).decode()
    parts: Object = ({"data": data} if data else {}) | ({"binaryData": binary} if binary else {})
    identity = orjson.dumps([list(contents), parts])
    metadata = {"name": versioned(name, identity)}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        **parts,
        "immutable": True,
    }


def _secret(name: str, content: bytes) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": versioned(name, _costly(content))},
        "type": "Opaque",
        "data": {"f0": base64.b64encode(content).decode()},
        "immutable": True,
    }


def _costly(secret: bytes) -> bytes:
    """A secret's name is read by people who may not read it: make guessing from it expensive."""
    return hashlib.scrypt(secret, salt=b"sampan", n=1 << 14, r=8, p=1, dklen=32)


def _grant(made: Mounts, kind: str, grant: Node, project: Project) -> None:
    """Mount one config or secret of the project into the service."""
    name, place, mode = _granted(kind, grant)
    declared = project.top(kind).get(name)
    if declared is None:
        grant.fail(f"there is no {kind[:-1]} {name!r} at the top level of the file")
    content = _content(kind[:-1], declared, project)
    if len(content) > LARGEST:
        declared.fail("holds more than 1 MiB, the most that a config or secret may")
    items = [{"key": "f0", "path": "f0", "mode": mode}]
    if kind == "secrets":
        held = _secret(name, content)
        source: Object = {"secret": {"secretName": held["metadata"]["name"], "items": items}}
    else:
        held = _config_map(name, {name: content})
        source = {"configMap": {"name": held["metadata"]["name"], "items": items}}
    made.objects.append(held)
    made.add(source, place, read_only=True, sub="f0")


def _granted(kind: str, grant: Node) -> tuple[str, str, int]:
    """Which one, where to, and with which mode."""
    long = isinstance(grant.value, dict)
    source = grant.get("source") if long else grant
    if source is None:
        grant.fail("`source` is missing")
    target = grant.get("target") if long else None
    place = target.text() if target else source.text()
    if not place.startswith("/"):
        place = f"/run/secrets/{place}" if kind == "secrets" else f"/{place}"
    return source.text(), place, _grant_mode(grant) if long else 0o444


def _grant_mode(grant: Node) -> int:
    for key in ("uid", "gid"):
        if (owner := grant.get(key)) and owner.text() != "0":
            owner.fail("files belong to root: only 0 is possible; set `mode` instead")
    if not (mode := grant.get("mode")):
        return 0o444
    try:
        return int(mode.text().removeprefix("0o"), 8)
    except ValueError:
        mode.fail(f"{mode.raw!r} is no mode: write it in octal, such as 0440")


def _content(kind: str, declared: Node, project: Project) -> bytes:
    given = [key for key in ("content", "environment", "file") if declared.get(key)]
    if len(given) != 1:
        declared.fail(f"a {kind} needs one of file, environment or content")
    value = declared.mapping()[given[0]]
    match given[0]:
        case "content":
            return value.text().encode()
        case "environment":
            if value.text() not in project.env:
                value.fail(f"the environment variable {value.raw} is not set")
            return project.env[value.raw].encode()
    return _read(value.at.base / value.text(), value)


def _tmpfs(made: Mounts, tmpfs: Node) -> None:
    target, _, options = tmpfs.text().partition(":")
    limit = ""
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size":
            limit = units.size(tmpfs.child("size", value))
        elif option not in {"rw", "mode=1777", "mode=0777", "mode=777"}:
            tmpfs.fail(f"the option {option!r} is refused: use size=")
    made.add(_memory(limit), target)


def _memory(limit: str) -> Object:
    return {"emptyDir": {"medium": "Memory", **({"sizeLimit": limit} if limit else {})}}
