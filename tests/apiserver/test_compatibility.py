"""The page on compatibility is true: it follows the code, and the code follows Kubernetes."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from sampan.api.errors import ApiError
from sampan.apiserver.http import handler, paths

ROOT = Path(__file__).resolve().parents[2]
CALL = re.compile(r"method='([A-Z]+)',\s+resource_path='([^']+)'")
STABLE = re.compile(r"/apis?/(?:[a-z0-9.]+/)?v[12]/(?!watch/).")


@cache
def script() -> ModuleType:
    file = ROOT / "scripts" / "kubernetes_compatibility.py"
    spec = importlib.util.spec_from_file_location("kubernetes_compatibility", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def official_calls() -> Iterator[tuple[str, str]]:
    """Every method and path that the official client of this Kubernetes release can call."""
    found = importlib.util.find_spec("kubernetes")
    assert found
    assert found.origin
    for file in sorted((Path(found.origin).parent / "client" / "api").glob("*_v[12]_api.py")):
        yield from CALL.findall(file.read_text())


def test_the_page_is_what_the_code_says() -> None:
    """Run `python scripts/kubernetes_compatibility.py` after a change, and read the difference."""
    assert script().PAGE.read_text() == script().page()


def test_everything_that_the_official_client_calls_is_served() -> None:
    refused = set()
    for method, path in official_calls():
        if not STABLE.match(path):
            continue
        concrete = path.replace("{", "").replace("}", "")
        try:
            target = paths.parse(paths.segments(concrete))
            assert target
            handler._check_method(paths.verb(method, target, watching=False), target)
        except (ApiError, AssertionError):
            refused.add(f"{method} {path}")
    assert not refused, sorted(refused)


@pytest.mark.parametrize("row", script().PARAMETERS, ids=lambda row: row[0])
def test_a_parameter_is_read_if_and_only_if_the_page_says_so(row: tuple[str, ...]) -> None:
    name, _, served, _ = row
    surface = ROOT / "src" / "sampan" / "apiserver" / "http"
    read = any(f'"{name}"' in file.read_text() for file in surface.glob("*.py"))
    assert read == (served == "yes")
