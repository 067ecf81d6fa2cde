"""Rules about how much of a node is left: asked again where a Pod came or went."""

from collections.abc import Iterator

import numpy as np

from sampan.scheduler.arrays import Amounts, Mask, Ratings, Rows
from sampan.scheduler.ask import Ask
from sampan.scheduler.columns import CPU, MEMORY, Table
from sampan.scheduler.demand import ATTACHMENT, GPU_SHARE, WHOLE_GPU, HostPort, is_gpu
from sampan.scheduler.words import written

ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


# ---- filters


def too_little(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    for number, name, amount in ask.requests:
        if not name.startswith(ATTACHMENT) and name != GPU_SHARE:
            reason = "Too many pods" if name == "pods" else f"Insufficient {name}"
            yield reason, _free(number, table, rows) < amount


def _free(number: int, table: Table, rows: Rows) -> Amounts:
    free: Amounts = (
        table.capacity[number, : table.top][rows] - table.used[number, : table.top][rows]
    )
    return free


def too_little_detail(ask: Ask, table: Table, row: int) -> str:
    lacking = []
    for number, name, amount in ask.requests:
        capacity, used = int(table.capacity[number, row]), int(table.used[number, row])
        if capacity - used >= amount or name.startswith(ATTACHMENT) or name == GPU_SHARE:
            continue
        if name == "pods":
            lacking.append(f"runs {used} of at most {capacity} Pods")
        else:
            free = written(name, max(capacity - used, 0))
            lacking.append(f"needs {written(name, amount, unit=True)}, {free} free")
    return " and ".join(lacking)


def no_device(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    """GPUs that are free in parts are no whole ones, and two halves of different ones not one."""
    if ask.demand.gpus[0]:
        within = slice(0, table.top) if isinstance(rows, slice) else rows
        name = next((n for n in ask.demand.requests if is_gpu(n)), GPU_SHARE)
        yield f"Insufficient {name}", table.devices.lacking(ask.demand, within)


def no_device_detail(ask: Ask, table: Table, row: int) -> str:
    number, share = ask.demand.gpus
    free = table.devices.free[: int(table.devices.total[row]) // WHOLE_GPU, row]
    if share:
        most = int(free.max(initial=0))
        left = f"the freest of {free.size} has {most / WHOLE_GPU:g} left"
        return f"needs {share / WHOLE_GPU:g} of one GPU, {left}"
    whole = int((free == WHOLE_GPU).sum())
    return f"needs {number} whole GPU(s), {whole} of {free.size} are wholly free"


def too_many_volumes(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    for number, name, amount in ask.requests:
        if name.startswith(ATTACHMENT):
            yield "node(s) exceed max volume count", _free(number, table, rows) < amount


def too_many_volumes_detail(ask: Ask, table: Table, row: int) -> str:
    return " and ".join(
        f"has {table.used[number, row]} of at most {table.capacity[number, row]} volumes of "
        f"{name.removeprefix(ATTACHMENT)} attached, and {amount} more are asked for"
        for number, name, amount in ask.requests
        if name.startswith(ATTACHMENT)
        and table.capacity[number, row] - table.used[number, row] < amount
    )


def port_taken(ask: Ask, table: Table, rows: Rows) -> Iterator[tuple[str, Mask]]:
    for port in ask.demand.ports:
        yield (
            "node(s) didn't have free ports for the requested pod ports",
            _taken(port, table, rows),
        )


def port_taken_detail(ask: Ask, table: Table, row: int) -> str:
    one = np.array([row])
    ports = [f"{p.port}/{p.protocol}" for p in ask.demand.ports if _taken(p, table, one)[0]]
    return f"host port {', '.join(ports)} is taken"


def _taken(port: HostPort, table: Table, rows: Rows) -> Mask:
    taken = np.zeros(table.top, np.bool_)
    for ip, counts in table.ports.get((port.protocol, port.port), {}).items():
        if collide(port, HostPort(port.protocol, port.port, ip)):
            taken |= counts[: table.top] > 0
    return taken[rows]


def collide(one: HostPort, other: HostPort) -> bool:
    """A port on one address collides with the same on that address, and on all addresses."""
    return (one.protocol, one.port) == (other.protocol, other.port) and (
        one.ip == other.ip or one.ip in ANY_ADDRESS or other.ip in ANY_ADDRESS
    )


# ---- scores


def least_allocated(ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Rate nodes by the mean percentage of CPU and memory that would be left."""
    cpu, memory = shares(ask, table, rows)
    cpu += memory
    cpu *= -0.5
    cpu += 100.0
    return cpu


def balanced(ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Rate nodes by how alike the shares of CPU and memory would be.

    100 minus the standard deviation of the two, in percent.
    """
    cpu, memory = shares(ask, table, rows)
    cpu -= memory
    np.abs(cpu, out=cpu)
    cpu *= -0.5
    cpu += 100.0
    return cpu


def shares(ask: Ask, table: Table, rows: Rows) -> tuple[Ratings, Ratings]:
    """Return the percentages of CPU and memory that would be in use, at most 100."""
    shares = []
    for resource in (CPU, MEMORY):
        share = table.per_percent[resource, : table.top][rows] * ask.demand.weighed[resource]
        share += table.share[resource, : table.top][rows]
        shares.append(np.minimum(share, 100.0, out=share))
    return shares[0], shares[1]
