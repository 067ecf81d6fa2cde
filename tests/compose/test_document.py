"""Reading: every value knows its place."""

from pathlib import Path

import pytest

from sampan.compose.document import ComposeError, Node, read


def parse(text: str, **env: str) -> Node:
    return read(text, file=Path("dir/compose.yaml"), base=Path("dir"), env=env)


def test_a_value_knows_its_file_its_line_and_its_path() -> None:
    node = parse("a:\n  - b:\n      c: 1\n").mapping()["a"].sequence()[0].mapping()["b"]
    inner = node.mapping()["c"]
    assert (str(inner.at), inner.path) == ("dir/compose.yaml:3", "a[0].b.c")
    assert node.at.line == 2


def test_a_scalar_keeps_its_text() -> None:
    values = parse("{a: 1.10, b: 0440, c: 'yes', d: no, e: ~, f: 22:22, g: 0x10}").mapping()
    assert [node.raw for node in values.values()] == [
        *("1.10", "0440", "yes", "no", "", "22:22", "0x10")
    ]
    assert values["e"].empty
    assert values["g"].integer() == 16


def test_anchors_and_merge_keys_work_and_own_keys_win() -> None:
    node = parse("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz:\n  <<: [*x, {a: 9, c: 4}]\n")
    assert {k: v.raw for k, v in node.mapping()["y"].mapping().items()} == {"a": "1", "b": "3"}
    z = {k: v.raw for k, v in node.mapping()["z"].mapping().items()}
    assert z == {"a": "1", "b": "2", "c": "4"}


def test_variables_are_put_into_values_but_not_into_keys() -> None:
    node = parse("$A: ${A}\nquoted: '$A'\nlist: [\"x$A\"]\n", A="1")
    assert node.mapping()["$A"].raw == "1"
    assert node.mapping()["quoted"].raw == "1"
    assert node.mapping()["list"].texts() == ["x1"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [", 2, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("a: 1\nb: 2\na: 3", 3, "'a' stands here twice"),
        ("a: 1\nb: !reset null", 2, "the tag !reset is not supported"),
        ("a:\n  <<: 1", 2, "<< can merge mappings only"),
        ("a:\n  b: ${X:?no}", 2, "a.b: the variable X is required: no"),
        ("a: &a\n  b: *a", 1, "nested too deep, or in itself"),
        ("", 1, "the file is empty"),
    ],
)
def test_what_cannot_be_read_names_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ComposeError) as error:
        parse(text)
    [problem] = error.value.problems
    assert problem.at.line == line
    assert message in problem.text


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (Node.mapping, "must be a mapping"),
        (Node.sequence, "must be a list"),
        (Node.integer, "must be a whole number, not 'x'"),
        (Node.flag, "must be true or false, not 'x'"),
        (lambda node: node.choice("a", "b"), "must be one of a, b, not 'x'"),
    ],
)
def test_a_value_of_the_wrong_type_says_which_is_meant(ask: object, message: str) -> None:
    assert callable(ask)
    with pytest.raises(ComposeError, match=message):
        ask(parse("a: x").mapping()["a"])


def test_a_list_is_no_text() -> None:
    with pytest.raises(ComposeError, match="must be a text"):
        parse("a: [1]").mapping()["a"].text()
