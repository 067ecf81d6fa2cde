"""Write down the protobuf field numbers of Kubernetes' types, as the real kubectl knows them.

Go keeps every struct's field tags (`json:"name" protobuf:"bytes,1,opt,name=name"`) in the binary
for reflection, so the kubectl of the pinned release is the authority on what it sends. Run it when
the Kubernetes release changes: `python scripts/kubernetes_protobuf.py .venv/bin/kubectl`.
"""

import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from sampan.api.kinds import KINDS
from sampan.apiserver import discovery

OUT = Path(__file__).parents[1] / "src/sampan/apiserver/http/protobuf.json"
ROOTS = ("DeleteOptions", "Status", "CreateOptions", "UpdateOptions", "PatchOptions")
META = "k8s.io/apimachinery/pkg/apis/meta/v1"
API = "k8s.io/api/"
MACHINERY = "k8s.io/apimachinery/pkg/apis/"
SPECIAL = {
    f"{META}.Time": "time",
    f"{META}.MicroTime": "time",
    f"{META}.Duration": "duration",
    f"{META}.FieldsV1": "json",
    "k8s.io/apimachinery/pkg/api/resource.Quantity": "quantity",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": "intorstring",
    "k8s.io/apimachinery/pkg/runtime.RawExtension": "json",
}
BOOL, UINT8, MAP, POINTER, SLICE, STRING, STRUCT = 1, 8, 21, 22, 23, 24, 25
INTS = range(2, 12)
HAS_UNCOMMON, HAS_TAG = 1, 2


@dataclass
class Field:
    json: str
    options: set[str]
    number: int
    type: int


class Binary:
    """The read-only data of an ELF file made by Go; addresses are those of the running program."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        sections = dict(self._sections())
        self.base, self._offset, self.size = sections[".rodata"]

    def _sections(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        (table,) = struct.unpack_from("<Q", self.data, 0x28)
        size, count, names = struct.unpack_from("<HHH", self.data, 0x3A)
        rows = [struct.unpack_from("<IIQQQQ", self.data, table + i * size) for i in range(count)]
        for row in rows:
            start = rows[names][4] + row[0]
            name = self.data[start : self.data.index(b"\0", start)].decode()
            yield name, (row[3], row[4], row[5])

    def holds(self, address: int) -> bool:
        return self.base <= address < self.base + self.size

    def read(self, layout: str, address: int) -> tuple[Any, ...]:
        return struct.unpack_from("<" + layout, self.data, address - self.base + self._offset)

    def name(self, address: int) -> tuple[str, str]:
        """Read a `runtime.name`: the name itself and its tag."""
        at = address - self.base + self._offset
        flags = self.data[at]
        text, at = self._counted(at + 1)
        tag, _ = self._counted(at) if flags & HAS_TAG else ("", at)
        return text, tag

    def _counted(self, at: int) -> tuple[str, int]:
        length = shift = 0
        while True:
            byte = self.data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return self.data[at : at + length].decode("latin-1"), at + length

    def kind(self, type_: int) -> int:
        return int(self.read("B", type_ + 23)[0]) & 31

    def element(self, type_: int, at: int = 48) -> int:
        return int(self.read("Q", type_ + at)[0])

    def full_name(self, struct_: int) -> str:
        """The package path and name of a struct type; "" if it has none."""
        if not self.read("B", struct_ + 20)[0] & HAS_UNCOMMON:
            return ""
        text, _ = self.name(self.base + self.read("i", struct_ + 40)[0])
        package, _ = self.name(self.base + self.read("i", struct_ + 80)[0])
        return f"{package}.{text.lstrip('*').rpartition('.')[2]}"

    def fields(self, struct_: int) -> list[Field]:
        _, start, count, _ = self.read("QQQQ", struct_ + 48)
        rows = (self.read("QQQ", start + 24 * i) for i in range(count))
        return list(filter(None, (self._field(*row) for row in rows)))

    def _field(self, name: int, type_: int, _offset: int) -> Field | None:
        _, tag = self.name(name)
        wire = re.search(r'protobuf:"[^,"]+,(\d+)', tag)
        json = re.search(r'json:"([^"]*)"', tag)
        if not wire or not json:
            return None
        called, *options = json[1].split(",")
        return Field(called, set(options), int(wire[1]), type_)

    def structs(self) -> Iterator[int]:
        """Find every struct type that has protobuf tags."""
        for address in range(self.base, self.base + self.size - 112, 8):
            if self.kind(address) != STRUCT:
                continue
            package, start, count, capacity = self.read("QQQQ", address + 48)
            plausible = count == capacity and 0 < count < 300 and self.holds(start)  # noqa: PLR2004
            if plausible and (not package or self.holds(package)):
                try:
                    if self.fields(address) and self.full_name(address):
                        yield address
                except (struct.error, IndexError, UnicodeDecodeError, OverflowError):
                    continue


class Table:
    """Every type reachable from the kinds that are served: fields by number."""

    def __init__(self, binary: Binary) -> None:
        self.binary = binary
        self.types: dict[str, dict[str, list[str]]] = {}

    def add(self, struct_: int) -> str:
        name = self.binary.full_name(struct_)
        if name in SPECIAL:
            return SPECIAL[name]
        short = name.removeprefix(API).removeprefix(MACHINERY)
        if short not in self.types:
            fields = self.types[short] = {}
            for field in self.binary.fields(struct_):
                fields[str(field.number)] = self._entry(field)
        return short

    def _entry(self, field: Field) -> list[str]:
        """Name, type, and when a value is kept: always, or unless it is zero."""
        type_, keep = field.type, "always"
        if self.binary.kind(type_) == POINTER:
            type_ = self.binary.element(type_)
        elif "omitempty" in field.options or "omitzero" in field.options:
            keep = "nonzero"
        return [field.json, self._type(type_), keep]

    def _type(self, type_: int) -> str:  # noqa: PLR0911 - a line a kind
        kind = self.binary.kind(type_)
        if kind == SLICE:
            inner = self.binary.element(type_)
            if self.binary.kind(inner) == UINT8:
                return "bytes"
            return f"[]{self._type(inner)}"
        if kind == MAP:
            value = self.binary.element(type_, 56)
            if (
                self.binary.kind(value) == SLICE
                and self.binary.kind(self.binary.element(value)) == STRING
            ):
                return "{}strings"  # ExtraValue, which is a message of its own
            return "{}" + self._type(value)
        if kind == POINTER:
            return self._type(self.binary.element(type_))
        if kind == STRUCT:
            return self.add(type_)
        return {STRING: "string", BOOL: "bool", **dict.fromkeys(INTS, "int")}[kind]


def wanted() -> Iterator[str]:
    yield from (f"{META}.{name}" for name in ROOTS)
    for kind in KINDS:
        own = (kind.group, kind.version, kind.kind)
        spoken = [discovery.subresource(kind, name)[0] for name in kind.subresources]
        for group, version, name in (own, *spoken):
            package = group.partition(".")[0] or "core"
            yield f"{API}{package}/{version}.{name}"


def main() -> None:
    table = Table(Binary(Path(sys.argv[1])))
    found = {table.binary.full_name(address): address for address in table.binary.structs()}
    names = sorted(set(wanted()))
    for name in names:
        if name in found:
            table.add(found[name])
    print("not in the binary:", *(name for name in names if name not in found))
    OUT.write_bytes(orjson.dumps(table.types, option=orjson.OPT_SORT_KEYS))
    print(len(table.types), "types,", OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
