"""Files of NAME=value lines."""

import pytest

from sampan.compose.dotenv import DotenvError, parse_dotenv


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("A=1\nB=two words\n", {"A": "1", "B": "two words"}),
        ("# comment\n\n  A = 1  # the first\n", {"A": "1"}),
        ("A=a#b", {"A": "a#b"}),
        ("export A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A='$B \\n # x'", {"A": "$B \\n # x"}),
        ('A="a\\nb" # c', {"A": "a\nb"}),
        ('A="one\ntwo"\nB=2', {"A": "one\ntwo", "B": "2"}),
        ('A="a \\"quoted\\" word"', {"A": 'a "quoted" word'}),
        ("A=1\nB=${A}2", {"A": "1", "B": "12"}),
        ("B=${SHELL_VAR:-none}", {"B": "given"}),
        ('B="\\$A"', {"B": "$A"}),
        ("SHELL_VAR\nABSENT", {"SHELL_VAR": "given", "ABSENT": None}),
        ("A=\nB=''", {"A": "", "B": ""}),
        ("A=1\nA=2", {"A": "2"}),
        ("", {}),
    ],
)
def test_what_lines_mean(text: str, entries: dict[str, str | None]) -> None:
    assert parse_dotenv(text, {"SHELL_VAR": "given"}) == entries


@pytest.mark.parametrize("text", ["A=1\nnot a line", "A=1\n=2", "A=1\nB='open", "A=1\nB=${C:?x}"])
def test_a_line_that_means_nothing_is_named(text: str) -> None:
    with pytest.raises(DotenvError) as error:
        parse_dotenv(text, {})
    assert error.value.line == 2
