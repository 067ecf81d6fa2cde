"""Whole files, and beside each what becomes of it.

`SAMPAN_REWRITE=1 pytest tests/compose` writes the expectations anew; read the difference before
you commit it.
"""

import io
import os
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sampan.compose.document import ComposeError
from sampan.compose.objects import convert
from sampan.compose.project import load

HERE = Path(__file__).parent / "scenarios"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def outcome(file: Path) -> str:
    """The objects as YAML, or what is refused."""
    try:
        objects = convert(load([file], env={}))
    except ComposeError as error:
        return f"# refused\n{error}\n"
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.representer.ignore_aliases = lambda _: True
    yaml.width = 100
    yaml.dump_all(objects, text)
    return text.getvalue()


@pytest.mark.parametrize("name", sorted(path.stem for path in HERE.glob("*.yaml")))
def test_a_file_becomes_what_stands_beside_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    expected = HERE / f"{name}.expected"
    seen = outcome(Path(f"{name}.yaml"))
    if os.environ.get("SAMPAN_REWRITE"):
        expected.write_text(seen)
    assert seen == expected.read_text()


@pytest.mark.parametrize(
    "file", sorted(EXAMPLES.glob("*/compose.yaml")), ids=lambda p: p.parent.name
)
def test_every_example_can_be_brought_up(file: Path) -> None:
    assert convert(load([file], env={}))
