"""A node's own mount namespace: what its containers mount nobody else sees, and it goes with them.

Inside it, a few places whose paths are fixed in containerd and the CNI library are the node's own
directories, so that several nodes can share a machine. Mounts made outside later are seen inside.
"""

import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

_CLONE_FS: Final = 0x00000200
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_SLAVE: Final = 1 << 19
_MS_SHARED: Final = 1 << 20
_MNT_DETACH: Final = 2
_HYBRID: Final = Path("/sys/fs/cgroup/unified")


class Mount(Struct, frozen=True):
    root: str
    """The directory of its file system that is mounted."""
    point: str
    kind: str
    options: str


def mounts(process: str = "self") -> Iterator[Mount]:
    """Yield what *process* has mounted, in the order in which it was; nothing if it has ended."""
    try:
        text = Path(f"/proc/{process}/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, *rest) = before.split(" "), after.split(" ")
        yield Mount(_plain(fields[3]), _plain(fields[4]), kind, rest[-1])


def _plain(path: str) -> str:
    """Undo the kernel's way of writing blanks, which is octal."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), path)


def create(binds: Mapping[Path, Path]) -> None:
    """Give this process a mount namespace of its own, with *binds* (target: source) in it.

    Its mounts are shared with the containers' namespaces, as mount propagation asks. Of a hybrid
    cgroup tree only version 1 is left, because crun refuses to work with both.
    """
    _call("unshare", _CLONE_NEWNS)
    _call("mount", None, b"/", None, _MS_REC | _MS_SLAVE, None)
    _call("mount", None, b"/", None, _MS_REC | _MS_SHARED, None)
    if _HYBRID.is_mount():
        unmount(_HYBRID)
    for target, source in binds.items():
        target.mkdir(parents=True, exist_ok=True)
        _call("mount", os.fsencode(source), os.fsencode(target), None, _MS_BIND, None)


def enter(pid: int) -> None:
    """Move this thread, and those that it starts, into the mount namespace of process *pid*."""
    with open(f"/proc/{pid}/ns/mnt", "rb") as namespace:  # noqa: PTH123 - a file descriptor, not a path
        _call("unshare", _CLONE_FS)  # a library may have started threads, which share it with us
        _call("setns", namespace.fileno(), _CLONE_NEWNS)


def enter_network(namespace: int) -> None:
    """Move this thread into the network namespace that the open file *namespace* stands for."""
    _call("setns", namespace, _CLONE_NEWNET)


def unmount(point: Path) -> None:
    _call("umount2", os.fsencode(point), _MNT_DETACH)


def namespace_of(pid: int) -> str:
    """Return what identifies the mount namespace of *pid*; "" if it has ended."""
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return ""


def _call(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")
