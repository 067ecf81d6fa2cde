"""The progress of a stack: a board that changes in place on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sampan.cli.rollout import ServiceState
from sampan.cli.terminal import out


class Board:
    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._began = time.monotonic()
        self._said: dict[str, str] = {}
        self._spinners: dict[str, Spinner] = {}
        self._live = Live(console=out, refresh_per_second=8) if out.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def show(self, states: Sequence[ServiceState]) -> None:
        if self._live:
            self._live.update(self._table(states))
            return
        for state in states:
            if self._said.get(state.name) != str(state):
                self._said[state.name] = str(state)
                out.print(Text(f"{self._subject} {state.name}: {state}"))

    def _table(self, states: Sequence[ServiceState]) -> Table:
        table = Table.grid(padding=(0, 2))
        for state in states:
            spinner = self._spinners.setdefault(state.name, Spinner("dots"))
            mark = Text("✓", style="green") if state.done else spinner
            count = Text(f"{state.ready}/{state.wanted}", style="green" if state.done else "")
            table.add_row(mark, Text(state.name, style="bold"), count, Text(state.why, style="dim"))
        return table
