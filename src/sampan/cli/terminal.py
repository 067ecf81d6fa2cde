"""How the commands talk to the person at the terminal."""

from collections.abc import Iterable, Sequence
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str, *, hint: str = "", code: int = 1) -> NoReturn:
    """End the command: what is wrong, and under it what to do about it. Both are plain text."""
    err.print(f"[bold red]error:[/] {escape(message)}")
    if hint:
        err.print(escape(hint))
    raise typer.Exit(code)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns as wide as they need to be, also where no terminal's width is known."""
    lines = [list(titles), *map(list, rows)]
    texts = [[Text.from_markup(cell) for cell in line] for line in lines]
    widths = [max(cell.cell_len for cell in column) for column in zip(*texts, strict=True)]
    for line in texts:
        padded = [
            cell + Text(" " * (width - cell.cell_len))
            for cell, width in zip(line, widths, strict=True)
        ]
        whole = Text("   ").join(padded)
        whole.rstrip()
        out.print(whole)
