"""Files of `NAME=value` lines: `.env` for a Compose file's variables, `env_file` for containers."""

import re
from collections.abc import Mapping
from typing import Final

from sampan.compose.interpolate import InterpolationError, interpolate

_ENTRY: Final = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][\w.-]*)[ \t]*
        (?:=[ \t]*(?:'(?P<literal>[^']*)'
                 |"(?P<quoted>(?:[^"\\]|\\.)*)"
                 |(?P<plain>(?!['"])[^\n]*?)))?
        (?:[ \t]+\#[^\n]*|[ \t]*)(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_BLANK: Final = re.compile(r"[ \t]*(?:\#[^\n]*)?(?:\n|\Z)")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$$"}


class DotenvError(Exception):
    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def parse_dotenv(text: str, env: Mapping[str, str]) -> dict[str, str | None]:
    """Read the entries; None for a name without a value, which is then taken from *env*.

    Values may hold variables: those of *env* come first, then what stands above in the file.
    Raises DotenvError with the line.
    """
    text = text.replace("\r\n", "\n")
    entries: dict[str, str | None] = {}
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
            continue
        line = text.count("\n", 0, at) + 1
        if not (entry := _ENTRY.match(text, at)):
            raise DotenvError(line, "is no NAME=value line")
        known = {name: value for name, value in entries.items() if value is not None} | dict(env)
        try:
            entries[entry["name"]] = _value(entry, known)
        except InterpolationError as error:
            raise DotenvError(line, str(error)) from error
        at = entry.end()
    return entries


def _value(entry: re.Match[str], known: Mapping[str, str]) -> str | None:
    if entry["literal"] is not None:
        return entry["literal"]
    if entry["quoted"] is not None:
        text = _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[0]), entry["quoted"])
        return interpolate(text, known, lambda _: None)
    if entry["plain"] is None:
        return known.get(entry["name"])
    return interpolate(entry["plain"], known, lambda _: None)
