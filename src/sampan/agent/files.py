"""Directories whose files change all at once, and mounts of memory.

A reader sees either all old files or all new ones: they live in a directory of their own, `..data`
links to it, and that link is replaced in one rename. It is the layout that programs in Kubernetes'
containers know and watch for.
"""

import ctypes
import errno
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from sampan.agent.payload import File

DATA: Final = "..data"
_NOSUID_NODEV: Final = 0x2 | 0x4
_DETACH: Final = 2
_SHARED_GROUP_FILE: Final = 0o440
_SHARED_GROUP_DIR: Final = 0o2110


def write_all(directory: Path, files: Mapping[str, File], group: int | None) -> bool:
    """Make *directory* hold exactly *files*; False if it does already."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    if _holds(directory, files):
        return False
    fresh = directory / f"..{time.time_ns():x}"
    fresh.mkdir(mode=0o755)
    _own(fresh, 0, group)
    for path, file in files.items():
        _write(fresh, path, file, group)
    old = _current(directory)
    link = directory / f"{DATA}_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.rename(directory / DATA)
    _link_names(directory, {PurePosixPath(path).parts[0] for path in files})
    if old:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _current(directory: Path) -> Path | None:
    try:
        return directory / (directory / DATA).readlink()
    except OSError:
        return None


def _holds(directory: Path, files: Mapping[str, File]) -> bool:
    current = _current(directory)
    if current is None or not current.is_dir():
        return False
    there = {str(p.relative_to(current)) for p in current.rglob("*") if not p.is_dir()}
    return there == set(files) and all(
        (current / path).read_bytes() == file.data for path, file in files.items()
    )


def _write(root: Path, path: str, file: File, group: int | None) -> None:
    for parent in reversed(PurePosixPath(path).parents[:-1]):
        (root / parent).mkdir(exist_ok=True, mode=0o755)
        _own(root / parent, 0, group)
    mode = file.mode if group is None else file.mode | _SHARED_GROUP_FILE
    handle = os.open(f"{root}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as target:
        target.write(file.data)
        if file.uid or group is not None:
            os.fchown(handle, file.uid, -1 if group is None else group)
        os.fchmod(handle, mode)


def _own(directory: Path, uid: int, group: int | None) -> None:
    if group is not None:
        os.chown(directory, uid, group)
        directory.chmod(directory.stat().st_mode | _SHARED_GROUP_DIR)


def _link_names(directory: Path, names: set[str]) -> None:
    for name in names:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"{DATA}/{name}")
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.is_symlink() and entry.name not in names:
            entry.unlink()


def scratch(directory: Path, group: int | None) -> None:
    """Make a directory in which every user of a Pod may write."""
    if directory.is_dir():
        return
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    if group is not None:
        os.chown(directory, -1, group)
        directory.chmod(0o2777)


def mount_memory(directory: Path, size: int) -> None:
    """Mount a tmpfs of at most *size* bytes (0 is the kernel's default); once."""
    if directory.is_mount():
        return
    mode = directory.stat().st_mode & 0o7777
    options = f"mode={mode:o},gid={directory.stat().st_gid}"
    options += f",size={size}" if size else ""
    done = _libc().mount(
        b"tmpfs", os.fsencode(directory), b"tmpfs", _NOSUID_NODEV, options.encode()
    )
    if done != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot mount memory on {directory}: {os.strerror(code)}")


def unmount(directory: Path) -> None:
    """Take away what is mounted there; no error if nothing is."""
    done = _libc().umount2(os.fsencode(directory), _DETACH)
    code = ctypes.get_errno()
    if done != 0 and code not in {errno.EINVAL, errno.ENOENT}:
        raise OSError(code, f"cannot unmount {directory}: {os.strerror(code)}")


def remove_tree(directory: Path) -> None:
    """Remove a Pod's *directory*, after the memory that is mounted on its volumes."""
    if not directory.exists():
        return
    for path in (directory / "volumes").glob("*"):
        if not path.is_symlink() and path.is_mount():
            unmount(path)
    shutil.rmtree(directory, ignore_errors=True)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
