"""Variables in texts: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+other}`.

Source: Compose Specification, "Interpolation". Without the colon a variable that is set but empty
counts as set. Defaults may hold variables themselves.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR: Final = re.compile(r":?[-?+]")


class InterpolationError(Exception):
    """A `$` in a text means nothing, or a variable that must be set is not."""


def interpolate(text: str, env: Mapping[str, str], unset: Callable[[str], None]) -> str:
    """Put variables into *text*; *unset* hears the name of each that is missing."""
    return _Text(env, unset).fill(text)


@dataclass(frozen=True, slots=True)
class _Text:
    env: Mapping[str, str]
    unset: Callable[[str], None]

    def fill(self, text: str) -> str:
        parts = []
        done = 0
        while (dollar := text.find("$", done)) >= 0:
            parts.append(text[done:dollar])
            value, done = self._substitute(text, dollar + 1)
            parts.append(value)
        return "".join(parts) + text[done:]

    def _substitute(self, text: str, after: int) -> tuple[str, int]:
        """What stands for the variable that begins at *after*, and where it ends."""
        if text.startswith("$", after):
            return "$", after + 1
        if text.startswith("{", after):
            end = _closing(text, after + 1)
            return self._braced(text[after + 1 : end]), end + 1
        if match := _NAME.match(text, after):
            return self._value(match.group()), match.end()
        raise InterpolationError(
            f"the $ in {text!r} starts no variable: write $$ for a dollar sign"
        )

    def _braced(self, inner: str) -> str:
        name = _NAME.match(inner)
        if not name:
            raise InterpolationError(f"${{{inner}}} names no variable")
        rest = inner[name.end() :]
        if not rest:
            return self._value(name.group())
        operator = _OPERATOR.match(rest)
        if not operator:
            raise InterpolationError(
                f"${{{inner}}}: after the name comes one of :- - :? ? :+ + or nothing"
            )
        word = rest[operator.end() :]
        value = self.env.get(name.group())
        given = bool(value) if operator.group().startswith(":") else value is not None
        match operator.group()[-1]:
            case "-":
                return value or "" if given else self.fill(word)
            case "+":
                return self.fill(word) if given else ""
        if not given:
            message = self.fill(word) or "it is not set"
            raise InterpolationError(f"the variable {name.group()} is required: {message}")
        return value or ""

    def _value(self, name: str) -> str:
        if name not in self.env:
            self.unset(name)
        return self.env.get(name, "")


def _closing(text: str, start: int) -> int:
    depth = 1
    at = start
    while at < len(text):
        if text.startswith("${", at):
            depth += 1
            at += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return at
        at += 1
    raise InterpolationError(f"{text!r}: a ${{ is never closed")
