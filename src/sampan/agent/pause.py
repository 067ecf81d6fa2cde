"""The container that holds a Pod's namespaces: a program of under 200 bytes, and an image of it.

It does nothing but wait, reap whatever is orphaned to it (which matters where a Pod's containers
share a PID namespace), and end on SIGTERM or SIGINT. It is written as machine code because a node
need not have a compiler, and because every Pod pays for the pages of this process.

    block SIGINT, SIGTERM, SIGCHLD           # a blocked signal reaches even a namespace's first
    loop: signal = rt_sigtimedwait(set)      # process, and needs no handler
          SIGCHLD: wait4(-1, WNOHANG) until there is none
          an error (EINTR): wait again
          else: exit(0)
"""

import hashlib
import io
import platform
import struct
import tarfile
from typing import Any, Final

import orjson
from msgspec import Struct

IMAGE: Final = "localhost/sampan/pause:1"
_ADDRESS: Final = 0x400000
_HEADERS: Final = 64 + 56
_READ_AND_EXECUTE: Final = 5


class _Machine(Struct, frozen=True):
    oci_name: str
    elf_number: int
    code: bytes
    """The text above, assembled; the last eight bytes are the set of signals."""


_MACHINES: Final = {
    "x86_64": _Machine(
        "amd64",
        62,
        bytes.fromhex(
            "6a0e5831ff488d354400000031d26a08415a0f05b880000000488d3d3000000031f631d26a08415a0f05"
            "83f811740b85c078e16a3c5831ff0f056a3d5883cfff31f66a015a4531d20f0585c07fecebc4"
            "0240010000000000"
        ),
    ),
    "aarch64": _Machine(
        "arm64",
        183,
        bytes.fromhex(
            "e81080d2000080d241030010020080d2030180d2010000d4281180d2a0020010010080d2020080d2"
            "030180d2010000d41f4400f1a000005400ffffb7a80b80d2000080d2010000d4882080d200008092"
            "010080d2220080d2030080d2010000d41f0000f12cffff54ecffff171f2003d5"
            "0240010000000000"
        ),
    ),
}


class UnknownMachine(Exception):
    """There is no pause program for this kind of processor."""


def program(machine: str = "") -> bytes:
    """Return the program as a static ELF executable for *machine*, by default this one."""
    kind = _machine(machine)
    size = _HEADERS + len(kind.code)
    identification = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    start = _ADDRESS + _HEADERS
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        identification, 2, kind.elf_number, 1, start, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack(
        "<IIQQQQQQ", 1, _READ_AND_EXECUTE, 0, _ADDRESS, _ADDRESS, size, size, 0x10000
    )
    return header + segment + kind.code


def archive(machine: str = "") -> bytes:
    """Return an OCI archive with IMAGE in it; the same bytes every time."""
    layer = _tar({"pause": program(machine)}, mode=0o755)
    config = orjson.dumps(
        {
            "architecture": _machine(machine).oci_name,
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    media = "application/vnd.oci.image"
    manifest = orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{media}.manifest.v1+json",
            "config": _descriptor(config, f"{media}.config.v1+json"),
            "layers": [_descriptor(layer, f"{media}.layer.v1.tar")],
        }
    )
    entry = _descriptor(manifest, f"{media}.manifest.v1+json")
    entry["annotations"] = {"io.containerd.image.name": IMAGE}
    members = {
        "oci-layout": orjson.dumps({"imageLayoutVersion": "1.0.0"}),
        "index.json": orjson.dumps({"schemaVersion": 2, "manifests": [entry]}),
    }
    for blob in (layer, config, manifest):
        members[f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}"] = blob
    return _tar(members, mode=0o644)


def _machine(name: str) -> _Machine:
    name = name or platform.machine()
    if name not in _MACHINES:
        raise UnknownMachine(f"Sampan runs on {' and '.join(_MACHINES)}, and this is {name}")
    return _MACHINES[name]


def _descriptor(blob: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _tar(members: dict[str, bytes], *, mode: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as written:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            written.addfile(info, io.BytesIO(data))
    return packed.getvalue()
