"""Network namespaces with names: files in /run/netns, as `ip netns` makes them.

A thread can be in a namespace of its own; whatever opens sockets or writes /proc/sys/net there
acts on that namespace and no other thread notices.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

DIRECTORY: Final = Path("/run/netns")

_NEWNET: Final = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    return DIRECTORY / name


def exists(name: str) -> bool:
    """A file that nothing is mounted on is what a reboot left."""
    file = path(name)
    return file.exists() and file.stat().st_dev != DIRECTORY.stat().st_dev


def create(name: str) -> None:
    if exists(name):
        return
    _share_directory()
    path(name).touch()
    in_new_thread(lambda: _bind_new(path(name)))


def delete(name: str) -> None:
    """Forget the name; the namespace goes when the last process in it has gone."""
    file = path(name)
    if exists(name):
        _check(_libc.umount2(os.fsencode(file), _MNT_DETACH), file)
    file.unlink(missing_ok=True)


def run_in(name: str, function: Callable[[], T]) -> T:
    """Call *function* in the named namespace, in a thread that ends with it."""

    def enter_and_call() -> T:
        with path(name).open("rb") as namespace:
            _check(_libc.setns(namespace.fileno(), _NEWNET), path(name))
        return function()

    return in_new_thread(enter_and_call)


def in_new_thread(function: Callable[[], T]) -> T:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function).result()


def _bind_new(file: Path) -> None:
    _check(_libc.unshare(_NEWNET), file)
    ours = f"/proc/self/task/{_libc.gettid()}/ns/net"
    _mount(ours, file, _MS_BIND)


def _share_directory() -> None:
    """Make /run/netns what `ip netns` expects: a shared mount, so that both see all names."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    if DIRECTORY.stat().st_dev == DIRECTORY.parent.stat().st_dev and not _is_mount():
        _mount(DIRECTORY, DIRECTORY, _MS_BIND | _MS_REC)
        _mount("none", DIRECTORY, _MS_SHARED | _MS_REC)


def _is_mount() -> bool:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(DIRECTORY) for line in mounts)


def _mount(source: str | Path, target: Path, flags: int) -> None:
    done = _libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None)
    _check(done, target)


def _check(result: int, file: Path) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(file))
