"""The conformance table in the documentation is the one in the code."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sampan.compose.keys import SERVICE, TOP, Rule

PAGE = Path(__file__).resolve().parents[2] / "docs" / "design" / "compose.md"


def rows(table: Mapping[str, Rule]) -> Iterator[str]:
    """One row for the keys that share a rule, in the table's order."""
    shared: dict[int, list[str]] = {}
    for key, rule in table.items():
        shared.setdefault(id(rule), []).append(key)
    for keys in shared.values():
        rule = table[keys[0]]
        names = ", ".join(f"`{key}`" for key in keys)
        yield f"| {names} | {rule.treatment} | {rule.note or '-'} |"


@pytest.mark.parametrize(("title", "table"), [("service", SERVICE), ("top-level", TOP)])
def test_the_page_shows_what_the_code_does(title: str, table: Mapping[str, Rule]) -> None:
    head = f"<!-- {title} keys: begin -->\n| key | | to what, or why |\n|---|---|---|\n"
    wanted = head + "\n".join(rows(table)) + f"\n<!-- {title} keys: end -->"
    section = re.compile(rf"<!-- {title} keys: begin -->.*?<!-- {title} keys: end -->", re.DOTALL)
    page = PAGE.read_text()
    if os.environ.get("SAMPAN_REWRITE"):
        page = section.sub(lambda _: wanted, page)
        PAGE.write_text(page)
    assert section.findall(page) == [wanted]
