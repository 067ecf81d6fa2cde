"""From files on disk to one project: which files, which variables, which services.

Everything relative is looked for beside the project's first file, except in a file that was
included or extended: there, beside that one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sampan.compose.document import ComposeError, Node, Position, Problem, Problems, read
from sampan.compose.dotenv import DotenvError, parse_dotenv
from sampan.compose.keys import check
from sampan.compose.merge import merged, normalised

FILES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
RESERVED: Final = frozenset(
    {"default", "kube-system", "kube-public", "kube-node-lease", "kubernetes"}
)
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SECTIONS: Final = ("services", "configs", "secrets", "networks")


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    """The stack's name, and its namespace's."""
    document: Node
    services: Mapping[str, Node]
    """Those that the active profiles leave in."""
    env: Mapping[str, str]
    warnings: Sequence[Problem] = ()

    def top(self, section: str) -> Mapping[str, Node]:
        """Return a top-level section's entries, such as its configs."""
        node = self.document.mapping().get(section)
        return node.mapping() if node else {}


def find_files(directory: Path) -> list[Path]:
    """The Compose file of *directory*, and its override; none if there is none."""
    for name in FILES:
        path = directory / name
        if path.is_file():
            stem, suffix = path.stem, path.suffix
            overrides = [path.with_name(f"{stem}.override{s}") for s in (suffix, *_others(suffix))]
            return [path, *[o for o in overrides if o.is_file()][:1]]
    return []


def _others(suffix: str) -> list[str]:
    return [other for other in (".yaml", ".yml") if other != suffix]


def load(
    files: Sequence[Path],
    *,
    name: str = "",
    env: Mapping[str, str],
    profiles: Iterable[str] = (),
) -> Project:
    """Read, merge and check *files*; raise ComposeError with everything that is wrong."""
    base = files[0].parent
    variables = _variables(base, env)
    wanted = name or variables.get("COMPOSE_PROJECT_NAME", "")
    loader = _Loader(variables)
    document = loader.document(files, base)
    chosen = _project_name(document, wanted, base)
    problems = Problems(check(document))
    services: dict[str, Node] = {}
    active = {*profiles, *variables.get("COMPOSE_PROFILES", "").split(",")}
    for key, service in _services(document, problems).items():
        with problems.caught():
            whole = loader.extended(service, document, ())
            if _active(whole, active):
                services[key] = whole
    problems.check()
    return Project(chosen, document, services, variables, tuple(loader.warnings))


def read_name(files: Sequence[Path], *, env: Mapping[str, str]) -> str:
    """Tell what project *files* describe, whatever else is wrong with them."""
    base = files[0].parent
    variables = _variables(base, env)
    document = _Loader(variables).document(files, base)
    return _project_name(document, variables.get("COMPOSE_PROJECT_NAME", ""), base)


def _services(document: Node, problems: Problems) -> Mapping[str, Node]:
    section = document.mapping().get("services")
    if section and section.mapping():
        return section.mapping()
    at = section.at if section else document.at
    problems.found.append(Problem(at, "there are no services in it"))
    return {}


def _variables(base: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The shell's variables, and below them those of the project's `.env`."""
    file = base / ".env"
    if not file.is_file():
        return dict(env)
    entries = read_dotenv(file, env, Position(file, 1, base))
    return {k: v for k, v in entries.items() if v is not None} | dict(env)


def read_dotenv(file: Path, env: Mapping[str, str], asked: Position) -> dict[str, str | None]:
    """Read a file of variables that *asked* names; raise ComposeError with its own line."""
    try:
        return parse_dotenv(read_text(file, asked), env)
    except DotenvError as error:
        raise ComposeError([Problem(Position(file, error.line, asked.base), str(error))]) from error


def read_text(file: Path, asked: Position) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError as error:
        raise ComposeError([Problem(asked, f"{file} is not text")]) from error
    except OSError as error:
        raise ComposeError([Problem(asked, f"cannot read {file}: {error.strerror}")]) from error


def _project_name(document: Node, wanted: str, base: Path) -> str:
    named = document.get("name")
    raw = wanted or (named.text() if named else base.resolve().name)
    name = re.sub(r"[_.\s]+", "-", raw.lower()).strip("-")
    at = named.at if named and not wanted else document.at
    if not _NAME.fullmatch(name):
        raise ComposeError(
            [Problem(at, f"{raw!r} cannot name a project: use letters, digits and dashes")]
        )
    if name in RESERVED:
        text = f"a project cannot be named {name!r}: the cluster's own namespace is"
        raise ComposeError([Problem(at, f"{text}; choose another with --project")])
    return name


def _active(service: Node, active: set[str]) -> bool:
    profiles = service.get("profiles")
    return not profiles or "*" in active or bool(active & set(profiles.texts()))


@dataclass(frozen=True, slots=True)
class _Loader:
    env: Mapping[str, str]
    warnings: list[Problem] = field(default_factory=list)

    def document(self, files: Sequence[Path], base: Path) -> Node:
        document = self._file(files[0], base)
        for file in files[1:]:
            document = merged(document, self._file(file, base))
        return document

    def _file(self, file: Path, base: Path, above: tuple[Path, ...] = ()) -> Node:
        asked = Position(file, 1, base)
        document = read(read_text(file, asked), file=file, base=base, env=self.env, warn=self._warn)
        if not isinstance(document.value, dict):
            document.fail("a Compose file is a mapping that begins with `services:`")
        for section in _SECTIONS:
            for entry in (document.get(section) or document.with_value(None)).mapping().values():
                if section == "services" and not isinstance(entry.value, dict):
                    entry.fail("must be a mapping with at least `image`")
        return self._with_included(normalised(document), (*above, file.resolve()))

    def _warn(self, problem: Problem) -> None:
        if problem not in self.warnings:
            self.warnings.append(problem)

    def _with_included(self, document: Node, above: tuple[Path, ...]) -> Node:
        """Take over what included files hold; a name that stands in both is an error."""
        include = document.get("include")
        for entry in include.sequence() if include else ():
            for file, base in _included_files(entry):
                if file.resolve() in above:
                    entry.fail(f"{file} includes itself")
                if not file.is_file():
                    entry.fail(f"there is no file {file}")
                document = _united(document, self._file(file, base, above))
        return document

    def extended(self, service: Node, document: Node, above: tuple[str, ...]) -> Node:
        """Lay *service* on what it extends, and that on what it extends in turn."""
        if not (extends := service.get("extends")):
            return service
        name, file = _extended_from(extends)
        origin = document
        if file:
            path = extends.at.base / file
            if not path.is_file():
                extends.fail(f"there is no file {path}")
            origin = self._file(path, path.parent)
        found = origin.get("services", name)
        if found is None:
            extends.fail(f"there is no service {name!r} in {origin.at.file}")
        if str(found.at) in above:
            extends.fail("extends itself")
        if file:
            Problems(check(origin.with_value({"services": _only(origin, name)}))).check()
        base = self.extended(found, origin, (*above, str(service.at)))
        own = {key: value for key, value in service.mapping().items() if key != "extends"}
        result = merged(base, service.with_value(own))
        kept = {k: v for k, v in result.mapping().items() if k != "extends"}
        return replace(result, value=kept)


def _only(document: Node, name: str) -> Node:
    services = document.mapping()["services"]
    return services.with_value({name: services.mapping()[name]})


def _extended_from(extends: Node) -> tuple[str, str]:
    if not isinstance(extends.value, dict):
        return extends.text(), ""
    service, file = extends.get("service"), extends.get("file")
    if service is None:
        extends.fail("`service` is missing")
    return service.text(), file.text() if file else ""


def _included_files(entry: Node) -> list[tuple[Path, Path]]:
    if not isinstance(entry.value, dict):
        path = entry.at.base / entry.text()
        return [(path, path.parent)]
    named, directory = entry.get("path"), entry.get("project_directory")
    if named is None:
        entry.fail("`path` is missing")
    texts = named.texts() if isinstance(named.value, list) else [named.text()]
    paths = [entry.at.base / text for text in texts]
    base = entry.at.base / directory.text() if directory else paths[0].parent
    return [(path, base) for path in paths]


def _united(document: Node, included: Node) -> Node:
    sections = dict(document.mapping())
    for section in _SECTIONS:
        theirs = included.mapping().get(section)
        if theirs is None:
            continue
        own = sections.get(section, theirs.with_value({}))
        for name, value in theirs.mapping().items():
            if name in own.mapping():
                value.fail(f"stands in {own.mapping()[name].at} too")
        sections[section] = own.with_value(dict(theirs.mapping()) | own.mapping())
    unread = {k: v for k, v in included.mapping().items() if k not in {*_SECTIONS, "name"}}
    return document.with_value({**unread, **sections})
