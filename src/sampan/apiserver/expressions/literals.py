"""Typed literals of mutations, `Object.spec{replicas: 3}` and `JSONPatch{op: "add"}`, as maps.

Mutating policies write their results as messages whose types are named by path. The types only
name fields, so `Object.spec{replicas: 3}` says the same as the map `{"replicas": 3}`, and that is
what it is turned into before it is compiled. Positions within lines move; texts and the structure
do not.
"""

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""
    (?P<text>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
  | (?P<comment>//[^\n]*)
  | (?P<typed>(?<![\w.])(?:Object(?:\s*\.\s*\w+)*|JSONPatch)\s*\{)
  | (?P<open>[\[({])
  | (?P<close>[\])}])
  | (?P<word>[A-Za-z_]\w*)
  | (?P<blank>\s+)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def as_maps(source: str) -> str:
    """*source* with its typed literals as maps with text keys."""
    return "".join(_turned(source))


def _turned(source: str) -> Iterator[str]:
    inside: list[bool] = []  # for each open bracket, whether it is that of a typed literal
    names_field = False
    for token in _TOKEN.finditer(source):
        kind, text = token.lastgroup, token[0]
        if kind == "typed":
            inside.append(True)
            names_field = True
            yield "{"
            continue
        if kind == "word" and names_field:
            yield f'"{text}"'
        else:
            yield text
        if kind == "open":
            inside.append(False)
        elif kind == "close" and inside:
            inside.pop()
        if kind not in {"blank", "comment"}:
            typed = bool(inside) and inside[-1]
            names_field = typed and (text == "," or (names_field and text == "?"))
