"""Variables in texts, after the Compose Specification's table."""

import pytest

from sampan.compose.interpolate import InterpolationError, interpolate

ENV = {"SET": "value", "EMPTY": "", "OTHER": "two"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("$SET and ${SET}", "value and value"),
        ("${SET}${OTHER}", "valuetwo"),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("${NONE-default} ${NONE:-default}", "default default"),
        ("${EMPTY-default}|${EMPTY:-default}", "|default"),
        ("${SET:-default}", "value"),
        ("${SET:+other}|${EMPTY:+other}|${EMPTY+other}|${NONE+other}", "other||other|"),
        ("${NONE:-${OTHER}}", "two"),
        ("${NONE:-a${NONE:-b${SET}}c}", "abvaluec"),
        ("${SET:?must be there}", "value"),
        ("${EMPTY?fine}", ""),
        ("${NONE:-a b: c}", "a b: c"),
        ("${NONE:-}", ""),
    ],
)
def test_every_form(text: str, result: str) -> None:
    assert interpolate(text, ENV, pytest.fail) == result


def test_a_variable_that_is_not_set_is_empty_and_reported() -> None:
    missing: list[str] = []
    assert interpolate("a$NONE", ENV, missing.append) == "a"
    assert missing == ["NONE"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NONE:?set it first}", "NONE is required: set it first"),
        ("${NONE?}", "NONE is required: it is not set"),
        ("${EMPTY:?not empty}", "EMPTY is required: not empty"),
        ("costs 5$", r"write \$\$ for a dollar sign"),
        ("${1A}", "names no variable"),
        ("${SET!x}", "after the name comes one of"),
        ("${SET", "never closed"),
        ("${NONE:-${SET}", "never closed"),
    ],
)
def test_what_makes_no_sense_is_explained(text: str, message: str) -> None:
    with pytest.raises(InterpolationError, match=message):
        interpolate(text, ENV, lambda _: None)
