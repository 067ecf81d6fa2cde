"""The cluster as columns: row i of every array is one node.

Rows are patched from watch events and by what the scheduler itself places, never rebuilt. A row
that nobody needs any more is used again; until then a Pod on a node that is not known (yet) keeps
a row that is not alive, so the order in which Nodes and Pods arrive does not matter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sampan.api.objects import Node, Taint
from sampan.scheduler.arrays import Amounts, Index, LabelColumn
from sampan.scheduler.census import Census, Kin
from sampan.scheduler.demand import ATTACHMENT, LARGEST, Demand, HostPort, amounts, is_gpu
from sampan.scheduler.devices import Devices, Workload

NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
CPU: Final = 0
MEMORY: Final = 1


@dataclass(slots=True)
class Held:
    """One Pod that counts on a node, bound or only assumed to be."""

    uid: str
    demand: Demand
    kin: Kin
    row: int
    leaving: bool
    devices: tuple[int, ...] = ()
    """The numbers of its GPUs on the node."""


class Table:
    def __init__(self, size: int = 16) -> None:  # noqa: PLR0915 - a line a column
        self.top = 0
        """Rows from here on have never been used."""
        self.names: list[str] = []
        self.rows: dict[str, int] = {}
        self.resources: dict[str, int] = {"cpu": 0, "memory": 1, "pods": 2}
        self.alive = np.zeros(size, np.bool_)
        self.unschedulable = np.zeros(size, np.bool_)
        self.capacity = np.zeros((3, size), np.int64)
        self.used = np.zeros((3, size), np.int64)
        self.weighed = np.zeros((2, size), np.int64)
        self.per_percent = np.zeros((2, size))
        """100 / capacity of CPU and memory, so that a share is one multiplication."""
        self.share = np.zeros((2, size))
        """How much of CPU and memory is in use, in percent, for scores."""
        self.taint_set = np.zeros(size, np.int64)
        self.taint_sets: list[tuple[Taint, ...]] = [()]
        self.labels: list[Mapping[str, str]] = []
        self.images: dict[str, dict[int, int]] = {}
        self.ports: dict[tuple[str, int], dict[str, Index]] = {}
        self.census = Census(size)
        self.devices = Devices(size)
        self.workload = Workload()
        self.nodes = 0
        self.standing = 0
        """Counts changes of what nodes are, as against what runs on them."""
        self.moves: list[int] = []
        """The rows that Pods came to or went from, in order; `forgotten` were dropped before."""
        self.forgotten = 0
        self.by_priority: dict[int, Amounts] = {}
        """What Pods of one priority use, for those priorities that anybody has."""
        self.residents: list[dict[str, Held]] = []
        """The Pods on each row by uid."""
        self.reserved: dict[str, tuple[Demand, int]] = {}
        """Pods that others make room for: demand and row. The room is used as far as all others
        can see, though the Pod is not there."""
        self.latest = -1
        """The row that the last Pod was placed on, as against told of by others."""
        self.placements = 0
        self._holders: dict[int, int] = {}
        self._nodes: dict[int, Node] = {}
        self._images: dict[int, dict[str, int]] = {}
        self._limits: dict[str, Mapping[str, int]] = {}
        self._free: list[int] = []
        self._held: dict[str, Held] = {}
        self._columns: dict[str, LabelColumn] = {}
        self._taint_ids: dict[tuple[Taint, ...], int] = {(): 0}

    # ---- nodes

    def set_node(self, node: Node) -> bool:
        """Take over *node*; say whether anything that placement depends on has changed."""
        row = self._row(node.metadata.name)
        old = self._nodes.get(row)
        self._nodes[row] = node
        taints = _taints(node)
        same = old is not None and (
            old.metadata.labels == node.metadata.labels
            and old.spec.unschedulable == node.spec.unschedulable
            and old.status.allocatable == node.status.allocatable
            and old.status.capacity == node.status.capacity
            and self.taint_sets[self.taint_set[row]] == taints
        )
        if old is None or old.status.images != node.status.images:
            self._set_images(row, node)
        if same:
            return False
        self.nodes += old is None
        self.alive[row] = True
        self.unschedulable[row] = node.spec.unschedulable
        self._set_capacity(row, node)
        self._set_labels(row, node.metadata.labels)
        self._set_taints(row, taints)
        self.standing += 1
        return True

    def drop_node(self, name: str) -> None:
        row = self.rows.get(name)
        if row is None or self._nodes.pop(row, None) is None:
            return
        self.nodes -= 1
        self.alive[row] = False
        self.capacity[:, row] = 0
        self.devices.set_number(row, 0)
        self.per_percent[:, row] = 0
        self._set_labels(row, {})
        self._set_taints(row, ())
        for image in self._images.pop(row, ()):
            self._unlink_image(image, row)
        self.standing += 1
        self._release(row)

    def resource(self, name: str) -> int:
        """Return the number of a resource, which gets a column when it is first heard of."""
        number = self.resources.get(name)
        if number is None:
            number = self.resources[name] = len(self.resources)
            empty = np.zeros((1, self.alive.size), np.int64)
            self.capacity = np.vstack([self.capacity, empty])
            self.used = np.vstack([self.used, empty])
            if name.startswith(ATTACHMENT):
                self.capacity[number] = LARGEST  # unless a node says how many it takes
        return number

    def set_limits(self, node: str, limits: Mapping[str, int]) -> bool:
        """Take over how many volumes a node can have attached; say whether that is new."""
        if self._limits.get(node, {}) == limits:
            return False
        self._limits[node] = limits
        row = self._row(node)
        for name in limits:
            self.resource(name)
        self._set_limits(row)
        self._release(row)
        self.standing += 1
        return True

    def _set_limits(self, row: int) -> None:
        limits = self._limits.get(self.names[row], {})
        for name, number in self.resources.items():
            if name.startswith(ATTACHMENT):
                self.capacity[number, row] = limits.get(name, LARGEST)

    def column(self, key: str) -> LabelColumn:
        """Return one label of all nodes; it is kept up to date from the first question on."""
        found = self._columns.get(key)
        if found is None:
            found = self._columns[key] = LabelColumn(self.alive.size)
            for row in range(self.top):
                found.set(row, self.labels[row].get(key))
        return found

    def _set_capacity(self, row: int, node: Node) -> None:
        self.capacity[:, row] = 0
        for name, value in amounts(node.status.allocatable or node.status.capacity).items():
            number = self.resource(name)  # first: it may replace the array
            self.capacity[number, row] = value
        self._set_limits(row)
        self._set_devices(row)
        capacity = np.maximum(self.capacity[:2, row], 1)
        self.per_percent[:, row] = np.where(self.capacity[:2, row] > 0, 100.0 / capacity, 0.0)
        self._reweigh(row)

    def _set_devices(self, row: int) -> None:
        number = sum(
            int(self.capacity[line, row]) for name, line in self.resources.items() if is_gpu(name)
        )
        if self.devices.set_number(row, number):
            for held in self.residents[row].values():
                self.devices.use(held.demand, row, held.devices, 1)

    def _set_labels(self, row: int, labels: Mapping[str, str]) -> None:
        self.labels[row] = labels
        for key, column in self._columns.items():
            column.set(row, labels.get(key))

    def _set_taints(self, row: int, taints: tuple[Taint, ...]) -> None:
        number = self._taint_ids.get(taints)
        if number is None:
            number = self._taint_ids[taints] = len(self.taint_sets)
            self.taint_sets.append(taints)
        self.taint_set[row] = number

    def _set_images(self, row: int, node: Node) -> None:
        images = {
            name: int(image.get("sizeBytes") or 0)
            for image in node.status.images
            for name in image.get("names") or ()
        }
        for name in self._images.get(row, {}).keys() - images.keys():
            self._unlink_image(name, row)
        for name, size in images.items():
            self.images.setdefault(name, {})[row] = size
        self._images[row] = images
        self.standing += 1

    def _unlink_image(self, name: str, row: int) -> None:
        rows = self.images[name]
        del rows[row]
        if not rows:
            del self.images[name]

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """Take over a namespace's labels, None when it is gone; say whether placement minds."""
        changed = self.census.set_namespace(name, labels)
        self.standing += changed
        return changed

    # ---- Pods

    def held(self, uid: str) -> Held | None:
        return self._held.get(uid)

    def add(
        self,
        uid: str,
        demand: Demand,
        node: str,
        *,
        leaving: bool = False,
        devices: tuple[int, ...] = (),
    ) -> Held:
        """Count a Pod on *node*; one that is counted elsewhere, or as another, moves.

        *devices* are its GPUs there; without, they are chosen, or stay those that it has.
        """
        row = self._row(node)
        if old := self._held.get(uid):
            if old.row == row and old.leaving == leaving and old.demand is demand:
                return old
            devices = devices or (old.devices if old.row == row else ())
            self.remove(uid)
            row = self._row(node)
        kin = self.census.came(demand, row, leaving=leaving)
        if demand.gpus[0]:
            devices = devices or self.devices.choose(demand, row)
            self.devices.use(demand, row, devices, 1)
        held = self._held[uid] = Held(uid, demand, kin, row, leaving, devices)
        self.residents[row][uid] = held
        self._use(demand, row, 1)
        return held

    def remove(self, uid: str) -> str | None:
        """Stop counting a Pod; return the node that it was on, None if it was on none."""
        held = self._held.pop(uid, None)
        if held is None:
            return None
        node = self.names[held.row]
        self.census.went(held.kin, held.demand, held.row, leaving=held.leaving)
        self.devices.use(held.demand, held.row, held.devices, -1)
        del self.residents[held.row][uid]
        self._use(held.demand, held.row, -1)
        self._release(held.row)
        return node

    def reserve(self, uid: str, demand: Demand, node: str) -> None:
        """Keep room on *node* for a Pod that cannot go there yet, and keep away whom it shuns."""
        row = self._row(node)
        self.reserved[uid] = (demand, row)
        self._use(demand, row, 1)
        self.census.claim(demand, row, 1)

    def unreserve(self, uid: str) -> str | None:
        """Give up what is kept for a Pod; return the node that it was on, None if there is none."""
        found = self.reserved.pop(uid, None)
        if found is None:
            return None
        demand, row = found
        node = self.names[row]
        self._use(demand, row, -1)
        self.census.claim(demand, row, -1)
        self._release(row)
        return node

    def reserved_on(self, row: int) -> Iterable[tuple[str, Demand]]:
        return ((uid, demand) for uid, (demand, at) in self.reserved.items() if at == row)

    def lower(self, priority: int) -> list[int]:
        """Return the priorities below *priority* that somebody has, lowest first."""
        return sorted(each for each in self.by_priority if each < priority)

    def _use(self, demand: Demand, row: int, sign: int) -> None:
        ranked = self._ranked(demand.priority, sign)
        for name, value in demand.requests.items():
            number = self.resource(name)  # first: it may replace the array
            self.used[number, row] += sign * value
            if number >= len(ranked):
                ranked = self._widen(demand.priority)
            ranked[number, row] += sign * value
        self.weighed[CPU, row] += sign * demand.weighed[CPU]
        self.weighed[MEMORY, row] += sign * demand.weighed[MEMORY]
        for port in demand.ports:
            self._port(port)[row] += sign
        if not self._holders[demand.priority]:
            del self._holders[demand.priority], self.by_priority[demand.priority]
        self._reweigh(row)
        self.moves.append(row)

    def _ranked(self, priority: int, sign: int) -> Amounts:
        """Return what Pods of *priority* use, and count one more or less of them."""
        self._holders[priority] = self._holders.get(priority, 0) + sign
        found = self.by_priority.get(priority)
        if found is None:
            found = self.by_priority[priority] = np.zeros_like(self.used)
        return found

    def _widen(self, priority: int) -> Amounts:
        old = self.by_priority[priority]
        wide = np.zeros_like(self.used)
        wide[: len(old)] = old
        self.by_priority[priority] = wide
        return wide

    def _reweigh(self, row: int) -> None:
        self.share[:, row] = self.weighed[:, row] * self.per_percent[:, row]

    def _port(self, port: HostPort) -> Index:
        by_ip = self.ports.setdefault((port.protocol, port.port), {})
        if port.ip not in by_ip:
            by_ip[port.ip] = np.zeros(self.alive.size, np.int64)
        return by_ip[port.ip]

    @property
    def version(self) -> tuple[int, int]:
        """Equal as long as no placement and no refusal can have changed."""
        return self.standing, self.forgotten + len(self.moves)

    def forget_moves(self) -> None:
        """Drop the record of moves; whoever has not read it starts anew."""
        self.forgotten += len(self.moves)
        self.moves.clear()

    # ---- rows

    def _row(self, name: str) -> int:
        row = self.rows.get(name)
        if row is not None:
            return row
        if self._free:
            row = self._free.pop()
            self.names[row] = name
        else:
            row = self.top
            if row == self.alive.size:
                self._grow(2 * row)
            self.top += 1
            self.names.append(name)
            self.labels.append({})
            self.residents.append({})
            self.standing += 1
        self.rows[name] = row
        return row

    def _release(self, row: int) -> None:
        if row in self._nodes or self.residents[row]:
            return
        if not any(at == row for _, at in self.reserved.values()):
            del self.rows[self.names[row]]
            self.names[row] = ""
            self._free.append(row)

    def _grow(self, size: int) -> None:
        for name in ("alive", "unschedulable", "taint_set"):
            setattr(self, name, _wider(getattr(self, name), size))
        for name in ("capacity", "used", "weighed", "per_percent", "share"):
            setattr(self, name, _wider(getattr(self, name), size))
        for name, number in self.resources.items():
            if name.startswith(ATTACHMENT):
                self.capacity[number, self.top :] = LARGEST
        for priority, amounts_ in self.by_priority.items():
            self.by_priority[priority] = _wider(amounts_, size)
        for column in self._columns.values():
            column.ids = _wider(column.ids, size)
        for by_ip in self.ports.values():
            for ip, counts in by_ip.items():
                by_ip[ip] = _wider(counts, size)
        self.census.grow(size)
        self.devices.grow(size)


def _wider(array: NDArray[Any], size: int) -> NDArray[Any]:
    wide = np.zeros((*array.shape[:-1], size), array.dtype)
    wide[..., : array.shape[-1]] = array
    return wide


def _taints(node: Node) -> tuple[Taint, ...]:
    """Return the taints that placement minds; a node that is not ready has one in any case.

    Whoever adds the taint to the Node does so a moment after the node has come or failed; no Pod
    shall slip in between.
    """
    taints = [
        Taint(taint.key, taint.value, taint.effect)
        for taint in node.spec.taints
        if taint.effect in {"NoSchedule", "NoExecute", "PreferNoSchedule"}
    ]
    known = {taint.key for taint in taints}
    if not node.ready and not known & {NOT_READY, UNREACHABLE}:
        taints.append(Taint(NOT_READY, "", "NoSchedule"))
    return tuple(sorted(set(taints), key=lambda taint: (taint.key, taint.value, taint.effect)))
