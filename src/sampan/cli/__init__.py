"""The `sampan` command: one module a verb, and nothing but flags → options → function in it."""

import typer

app = typer.Typer(
    name="sampan",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="A handful of Linux machines become one computer for containers.",
)


def main() -> None:
    app()
