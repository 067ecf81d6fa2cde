"""The `sampan` command: one module a verb, and nothing but flags → options → function in it.

The verbs stand in one list with what they do; a module is imported only when its verb is used, so
that `sampan --help` stays fast and a client verb never loads a server.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Final

import typer
from typer.core import TyperGroup

VERBS: Final[Mapping[str, str]] = {
    "server": "Run a server: API, controllers, scheduler, and a node on this machine.",
    "agent": "Run a node that joins a server.",
    "kubeconfig": "Print the kubeconfig of the cluster that runs here.",
    "dev": "A cluster of several nodes on this machine.",
    "up": "Bring a Compose application up on the cluster.",
    "down": "Take a Compose application off the cluster.",
    "ps": "List an application's replicas.",
    "logs": "Show an application's logs.",
    "image": "Put images on the nodes without a registry.",
    "check": "Examine what the cluster does: names, Services, rules.",
    "doctor": "Say what this machine lacks for running containers.",
}
"""Each verb is a module of `sampan.cli`, with a function of its name or a Typer `app` in it."""


class Verbs(TyperGroup):
    """Commands that are imported when they are typed.

    The types are click's, which Typer has of its own in some versions: hence `Any`.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"sampan.cli.{cmd_name}")
        if app := getattr(module, "app", None):
            return typer.main.get_command(app)
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(name=cmd_name)(getattr(module, cmd_name))
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A handful of Linux machines become one computer for containers.",
)


@app.callback()
def sampan() -> None:
    pass


def main() -> None:
    app(prog_name="sampan")
