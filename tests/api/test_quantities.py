from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.quantities import human_bytes, milli, parse, whole, written


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("500m", "0.5"), ("2", "2"), ("64Mi", str(64 << 20)), ("1.5G", "1500000000"),
        ("1e3", "1000"), ("-1k", "-1000"), (".5", "0.5"), ("5.", "5"), ("100n", "1e-7"),
        ("1Ei", str(1 << 60)), (0.1, "0.1"), (7, "7"),
    ],
)  # fmt: skip
def test_every_way_of_writing_an_amount_is_read_exactly(text: str, amount: str) -> None:
    assert parse(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "Mi", "1 Mi", "1mi", "0x10", "1e", "--1", "1KiB", "1e1000"])
def test_what_is_no_amount_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="500m"):
        parse(text)


def test_parts_are_rounded_up_because_a_request_must_be_covered() -> None:
    assert (whole("1500m"), milli("0.0001"), milli("2")) == (2, 1, 2000)


@given(st.integers(0, 1 << 50))
def test_milli_and_whole_agree(amount: int) -> None:
    assert milli(amount) == 1000 * whole(amount)


def test_bytes_are_written_for_people() -> None:
    assert [human_bytes(n) for n in (0, 1023, 1536, 3 << 30, 5 << 41)] == [
        "0 B", "1023 B", "1.5 KiB", "3.0 GiB", "10.0 TiB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("amount", "binary", "text"),
    [
        ("0", False, "0"), ("1500m", False, "1500m"), ("2", False, "2"), ("2000", False, "2k"),
        ("1536Mi", True, "1536Mi"), ("1Gi", True, "1Gi"), ("1Gi", False, "1073741824"),
        ("500", True, "500"), ("0.0000000001", False, "1n"),
    ],
)  # fmt: skip
def test_amounts_are_written_in_the_largest_unit_that_leaves_them_whole(
    amount: str,
    binary: bool,  # noqa: FBT001 - a column of the table
    text: str,
) -> None:
    assert written(parse(amount), binary=binary) == text
