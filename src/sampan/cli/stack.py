"""Which application a command means: the options that `up`, `down`, `ps` and `logs` share."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from sampan.cli.terminal import err, fail

if TYPE_CHECKING:
    from sampan.client.interface import Client
    from sampan.compose.document import Problem
    from sampan.compose.project import Project

FILES = "COMPOSE_FILE"
"""Compose's own variable for the files that are meant where none is given."""
Files = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", help="A Compose file; may be repeated. Else compose.yaml here."),
]
ProjectName = Annotated[
    str, typer.Option("--project", "-p", help="The application; else as the file says.")
]


def read_project(files: list[Path] | None, name: str, profiles: list[str] | None) -> "Project":
    """Read the Compose files that are meant; what is wrong with them ends the command."""
    from sampan.compose.document import ComposeError  # noqa: PLC0415 - YAML is slow to import
    from sampan.compose.project import load  # noqa: PLC0415

    chosen = _existing(files) or fail(
        f"there is no Compose file in {Path.cwd()}", hint="name one: -f FILE"
    )
    try:
        project = load(chosen, name=name, env=dict(os.environ), profiles=profiles or ())
    except ComposeError as error:
        fail(str(error))
    warn(project.warnings)
    return project


def warn(problems: "Iterable[Problem]") -> None:
    for problem in problems:
        err.print(f"[yellow]warning:[/] {escape(str(problem))}")


def _existing(files: list[Path] | None) -> list[Path]:
    from sampan.compose.project import find_files  # noqa: PLC0415

    named = files or [Path(text) for text in os.environ.get(FILES, "").split(os.pathsep) if text]
    for file in named:
        if not file.is_file():
            fail(f"there is no file {file}", hint="" if files else f"${FILES} names it")
    return named or find_files(Path())


async def stack_name(client: "Client", name: str, files: list[Path] | None) -> str:
    """Tell which stack of the cluster is meant: by name, by file, or because it is the only one."""
    stacks = await list_stacks(client)
    wanted = name or _named_by_files(files)
    if not wanted and len(stacks) == 1:
        return stacks[0]
    hint = f"running here: {', '.join(stacks)}" if stacks else "no application runs here"
    if not wanted:
        fail("which application? Name it: --project NAME, or -f FILE", hint=hint)
    if wanted not in stacks:
        fail(f"there is no application {wanted!r} on the cluster", hint=hint)
    return wanted


def _named_by_files(files: list[Path] | None) -> str:
    chosen = _existing(files)
    if not chosen:
        return ""
    from sampan.compose.document import ComposeError  # noqa: PLC0415
    from sampan.compose.project import read_name  # noqa: PLC0415

    try:
        return read_name(chosen, env=dict(os.environ))
    except ComposeError as error:
        fail(str(error))


async def list_stacks(client: "Client") -> list[str]:
    from sampan.api import kinds  # noqa: PLC0415
    from sampan.cli.rollout import STACK  # noqa: PLC0415

    listing = await client.list(kinds.NAMESPACES, labels=STACK)
    return sorted(namespace["metadata"]["name"] for namespace in listing.items)
