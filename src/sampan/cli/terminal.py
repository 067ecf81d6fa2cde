"""How the commands talk to the person at the terminal."""

from typing import NoReturn

import typer
from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str, *, hint: str = "", code: int = 1) -> NoReturn:
    """End the command: what is wrong, and under it what to do about it."""
    err.print(f"[bold red]error:[/] {message}")
    if hint:
        err.print(hint)
    raise typer.Exit(code)
