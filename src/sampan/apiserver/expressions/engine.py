"""The evaluator itself, which weighs 16 MB: loaded when there is a first expression."""

from functools import cache
from typing import Any, Final

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_math, ext_optional, ext_strings

from sampan.apiserver.expressions import authorizer, library, network

_TYPES: Final[dict[str, Any]] = {
    "dyn": cel.Type.DYN, "bool": cel.Type.BOOL, "int": cel.Type.INT, "double": cel.Type.DOUBLE,
    "string": cel.Type.STRING, "bytes": cel.Type.BYTES, "timestamp": cel.Type.TIMESTAMP,
    "list": cel.Type.LIST, "map": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
}  # fmt: skip


@cache
def environment(variables: tuple[tuple[str, str], ...]) -> Any:
    """An environment of the given variables, by the names of their types."""
    return cel.NewEnv(
        variables={name: _TYPES[type_] for name, type_ in variables},
        extensions=[
            ext_strings.ExtStrings(),
            ext_math.ExtMath(),
            ext_optional.ExtOptional(),
            ext_bindings.ExtBindings(),
            # The last: it adds overloads to functions of those before it, and not the reverse.
            cel.CelExtension(
                "kubernetes", [*library.FUNCTIONS, *network.FUNCTIONS, *authorizer.FUNCTIONS]
            ),
        ],
    )
