"""What the Compose tests share: a project from text, and parts of what it becomes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from sampan.compose.document import ComposeError
from sampan.compose.objects import convert
from sampan.compose.project import Project, load

Object = dict[str, Any]


def project(
    directory: Path,
    text: str,
    *,
    name: str = "test",
    env: Mapping[str, str] | None = None,
    profiles: Iterable[str] = (),
) -> Project:
    file = directory / "compose.yaml"
    file.write_text(dedent(text))
    return load([file], name=name, env=env or {}, profiles=profiles)


def objects(directory: Path, text: str, **options: Any) -> dict[str, Object]:
    """What the text becomes, by `Kind/name`."""
    made = convert(project(directory, text, **options))
    return {f"{obj['kind']}/{obj['metadata']['name']}": obj for obj in made}


def service(directory: Path, keys: str, **options: Any) -> dict[str, Object]:
    """What one service `web` with these keys becomes, beside a service `db`."""
    body = indent(dedent(keys).strip(), "    ")
    image = "" if "image:" in keys else "    image: web:1\n"
    db = "  db: {image: 'db:1', healthcheck: {test: 'true'}}\n"
    return objects(directory, f"services:\n  web:\n{image}{body}\n{db}", **options)


def pod(made: Mapping[str, Object], name: str = "web") -> Object:
    return dict(made[f"Deployment/{name}"]["spec"]["template"]["spec"])


def container(made: Mapping[str, Object], name: str = "web") -> Object:
    return dict(pod(made, name)["containers"][0])


def refusals(directory: Path, text: str, **options: Any) -> list[str]:
    """Each problem as `line: text`."""
    try:
        objects(directory, text, **options)
    except ComposeError as error:
        return [f"{p.at.line}: {p.text}" for p in error.problems]
    raise AssertionError("nothing was refused")
