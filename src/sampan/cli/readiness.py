"""Waiting for a server and its nodes, and saying meanwhile what is waited for."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.status import Status

from sampan.api import kinds
from sampan.api.errors import ApiError
from sampan.api.objects import Node, condition
from sampan.cli.terminal import out
from sampan.client.http import Connection, HttpClient

PAUSE = 0.05


class NotReady(Exception):
    """Not ready in time; the text says what was missing."""


class Progress:
    """One line that changes in place on a terminal, and plain lines elsewhere."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._last = ""
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if out.is_terminal:
            self._status = out.status(self._subject)
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status:
            self._status.stop()

    def say(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        if self._status:
            self._status.update(f"{self._subject}: {text}")
        else:
            out.print(f"{self._subject}: {text}")


async def wait_for_nodes(
    kubeconfig: Path, nodes: Sequence[str], progress: Progress, *, seconds: float
) -> None:
    """Wait until the server answers and every one of *nodes* is ready; else raise NotReady."""
    deadline = time.monotonic() + seconds
    progress.say("waiting for the API server")
    while not kubeconfig.exists():  # noqa: ASYNC240 - nothing else runs in this loop
        await _pause(deadline, "the API server has not written its kubeconfig")
    async with HttpClient(Connection.from_kubeconfig(kubeconfig)) as client:
        while missing := await _unready(client, nodes):
            progress.say(missing)
            await _pause(deadline, missing)


async def _pause(deadline: float, missing: str) -> None:
    if time.monotonic() > deadline:
        raise NotReady(missing)
    await asyncio.sleep(PAUSE)


async def _unready(client: HttpClient, names: Sequence[str]) -> str:
    """Say what is not ready yet; "" when all is."""
    try:
        listing = await client.list(kinds.NODES)
    except ApiError as error:
        return f"the API server does not answer yet ({error})"
    nodes = {node.metadata.name: node for node in map(Node.of, listing.items)}
    waiting = {name: _why(nodes.get(name)) for name in names}
    waiting = {name: why for name, why in waiting.items() if why}
    if not waiting:
        return ""
    ready = len(names) - len(waiting)
    reasons = ", ".join(f"{name} ({why})" for name, why in waiting.items())
    return f"{ready} of {len(names)} nodes ready; waiting for {reasons}"


def _why(node: Node | None) -> str:
    if node is None:
        return "not registered yet"
    if node.ready:
        return ""
    ready = condition(node.status.conditions, "Ready")
    return (ready.message or ready.reason if ready else "") or "starting"
