"""What expressions see of an attempt, and the conditions under which one is looked at. Pure."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Final

from sampan.api.objects import Object
from sampan.apiserver.admission import reviews
from sampan.apiserver.admission.attempt import Attempt
from sampan.apiserver.expressions import (
    CannotEvaluate,
    Program,
    TypeName,
    compile_expression,
)
from sampan.apiserver.expressions.asking import Allows, asking

KNOWN: Final[Mapping[str, TypeName]] = {
    "object": "dyn", "oldObject": "dyn", "request": "dyn", "authorizer": "dyn",
}  # fmt: skip
"""The variables of a match condition."""
NOTHING: Final[Mapping[str, Any]] = {}


class Scene:
    """An attempt as expressions see it: with its namespace, and whom they may ask for rights."""

    def __init__(self, attempt: Attempt, namespace: Object | None, allows: Allows) -> None:
        self.attempt = attempt
        self.namespace = namespace
        self._allows = allows

    @cached_property
    def _fixed(self) -> Mapping[str, Any]:
        attempt = self.attempt
        told = reviews.request(attempt, attempt.kind, "")
        about = {key: told[key] for key in told if key not in {"uid", "object", "oldObject"}}
        return {
            "request": {"namespace": "", "subResource": "", **about},
            "authorizer": {"requestResource": _question(attempt)},
            "namespaceObject": self.namespace,
        }

    @property
    def variables(self) -> dict[str, Any]:
        attempt = self.attempt
        return {**self._fixed, "object": attempt.object, "oldObject": attempt.old}

    def evaluate(self, program: Program, variables: Mapping[str, Any]) -> Any:
        """The value of *program*; raise CannotEvaluate if it has none."""
        with asking(self._allows):
            return program.evaluate(variables)


def _question(attempt: Attempt) -> Object:
    """What `authorizer.requestResource` asks about."""
    asked = {
        "group": attempt.kind.group,
        "resource": attempt.kind.plural,
        "subresource": attempt.subresource,
        "namespace": attempt.namespace,
        "name": attempt.name,
    }
    return {field: value for field, value in asked.items() if value}


class Conditions:
    """`matchConditions`: all must hold."""

    def __init__(self, raw: Iterable[Object], known: Mapping[str, TypeName] = KNOWN) -> None:
        self._raw = tuple(raw)
        self._known = known

    @cached_property
    def _terms(self) -> list[tuple[str, Program]]:
        return [
            (term["name"], compile_expression(term["expression"], self._known))
            for term in self._raw
        ]

    def hold(self, scene: Scene, more: Mapping[str, Any] = NOTHING) -> bool:
        """Whether all hold; raise CannotEvaluate if one fails and none is false."""
        if not self._raw:
            return True
        variables = {**scene.variables, **more}
        variables = {name: variables.get(name) for name in self._known}
        trouble = ""
        for name, program in self._terms:
            try:
                if not scene.evaluate(program, variables):
                    return False
            except CannotEvaluate as error:
                trouble = trouble or f"match condition '{name}' failed: {error}"
        if trouble:
            raise CannotEvaluate(trouble)
        return True
