"""What the options of `sampan agent` mean."""

import pytest
import typer

from sampan.cli.agent import parse_servers


def test_name_servers_are_for_everything_or_for_one_domain() -> None:
    given = ["10.0.0.1", "corp.example=10.0.0.53", "corp.example=10.0.0.54", "fd00::1"]
    assert parse_servers(given) == (
        ("10.0.0.1", "fd00::1"),
        {"corp.example": ("10.0.0.53", "10.0.0.54")},
    )


@pytest.mark.parametrize("text", ["ns.example.org", "corp.example=", "corp.example=dns"])
def test_a_name_server_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(typer.Exit):
        parse_servers([text])
