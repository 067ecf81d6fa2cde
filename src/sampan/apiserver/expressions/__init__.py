"""CEL, as Kubernetes speaks it: an expression is checked once and evaluated often.

Google's own implementation (cel-cpp) parses, checks types and evaluates; what Kubernetes adds to
the language is in `library`, `network` and `authorizer`. An expression cannot loop without end,
nor reach anything that it was not given.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

TypeName = Literal["dyn", "bool", "int", "double", "string", "bytes", "timestamp", "list", "map"]

LONGEST: Final = 10_000
"""Characters of an expression; a longer one is refused before it is parsed."""


class CannotCompile(Exception):
    """An expression is malformed, or names what is not there; the text points at the place."""


class CannotEvaluate(Exception):
    """An expression has no value for what it was given; the text says why."""


class Program:
    """A checked expression over named variables; evaluating it changes nothing."""

    def __init__(self, source: str, compiled: Any) -> None:
        self.source = source
        self.compiled = compiled

    @property
    def type(self) -> str:
        """The type of the value, as far as it is known before: "bool", "string", "dyn", …"""
        return str(self.compiled.return_type().name()).lower()

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """Return the value as plain JSON would have it; raise CannotEvaluate if there is none."""
        try:
            found = self.compiled.eval(data=variables)
            if found.type().name() == "ERROR":
                raise CannotEvaluate(_plain_words(str(found.value())))
            return found.plain_value()
        except (RuntimeError, TypeError) as error:
            raise CannotEvaluate(_plain_words(str(error))) from error


def compile_expression(source: str, variables: Mapping[str, TypeName]) -> Program:
    """Parse and check *source*; raise CannotCompile with what is wrong and where."""
    if len(source) > LONGEST:
        raise CannotCompile(f"the expression is longer than {LONGEST} characters")
    from sampan.apiserver.expressions.engine import environment  # noqa: PLC0415 - it is heavy

    try:
        return Program(source, environment(tuple(variables.items())).compile(source))
    except (RuntimeError, TypeError, ValueError) as error:
        text = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix("[INVALID_ARGUMENT]")
        text = text.replace(" (in container '')", "").rstrip()
        raise CannotCompile(f"compilation failed: {text}") from error


_NO_KEY: Final = "Key not found in map : "


def _plain_words(text: str) -> str:
    code, _, rest = text.partition(": ")
    told = rest if code.replace("_", "").isupper() else text
    if told.startswith(_NO_KEY):
        return f"no such key: {told.removeprefix(_NO_KEY).strip(chr(34))}"
    return told.replace("No matching overloads found", "no such overload")
