"""ValidatingAdmissionPolicies and MutatingAdmissionPolicies: expressions that decide. Pure.

A policy does nothing by itself: a binding says where it holds, with which parameters, and what
follows. Source: Kubernetes, "Validating Admission Policy" and "Mutating Admission Policy".
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Final

from msgspec import Struct

from sampan.api.errors import ApiError, Cause, Forbidden, error_from_status
from sampan.api.kinds import BY_GVK
from sampan.api.objects import Object
from sampan.apiserver.admission.conditions import KNOWN, Conditions, Scene
from sampan.apiserver.admission.matching import Match
from sampan.apiserver.decoding import copied
from sampan.apiserver.expressions import (
    CannotEvaluate,
    Program,
    TypeName,
    compile_expression,
)
from sampan.apiserver.expressions.literals import as_maps
from sampan.apiserver.patches import json_patch, managed, server_side

_API: Final = "admissionregistration.k8s.io/v1"
VALIDATING: Final = BY_GVK[_API, "ValidatingAdmissionPolicy"]
VALIDATING_BINDINGS: Final = BY_GVK[_API, "ValidatingAdmissionPolicyBinding"]
MUTATING: Final = BY_GVK[_API, "MutatingAdmissionPolicy"]
MUTATING_BINDINGS: Final = BY_GVK[_API, "MutatingAdmissionPolicyBinding"]
_CODES: Final = {
    "Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413,
}  # fmt: skip
_NO_FIELDS: Final = {"$patch", "managedFields"}


def known(spec: Object, *, variables: bool = True) -> Mapping[str, TypeName]:
    """The variables that a policy's expressions may name."""
    names: dict[str, TypeName] = {**KNOWN, "namespaceObject": "dyn"}
    if spec.get("paramKind"):
        names["params"] = "dyn"
    return {**names, "variables": "map"} if variables else names


class Validation(Struct, frozen=True):
    program: Program
    message: str
    told: Program | None
    reason: str


class Binding:
    def __init__(self, raw: Object) -> None:
        spec = raw.get("spec") or {}
        self.name: str = raw["metadata"]["name"]
        self.policy: str = spec.get("policyName", "")
        self.parameters: Object | None = spec.get("paramRef")
        self.match = Match.of(spec.get("matchResources") or {}, all_=True)
        self.actions: frozenset[str] = frozenset(spec.get("validationActions") or ())


class Policy:
    """What both sorts have in common; compiled when it is first needed."""

    def __init__(self, raw: Object) -> None:
        self.name: str = raw["metadata"]["name"]
        self.spec: Object = raw.get("spec") or {}
        self.match = Match.of(self.spec.get("matchConstraints") or {})
        self.ignores_failure = self.spec.get("failurePolicy") == "Ignore"
        self.parameter_kind: Object | None = self.spec.get("paramKind")
        self._known = known(self.spec)

    @cached_property
    def _conditions(self) -> Conditions:
        terms = self.spec.get("matchConditions") or ()
        return Conditions(terms, known(self.spec, variables=False))

    @cached_property
    def _variables(self) -> list[tuple[str, Program]]:
        return [
            (each["name"], compile_expression(each["expression"], self._known))
            for each in self.spec.get("variables") or ()
        ]

    def applies(self, scene: Scene, params: Object | None) -> bool:
        """Whether all match conditions hold; raise CannotEvaluate if that cannot be said."""
        return self._conditions.hold(scene, {"params": params})

    def variables(self, scene: Scene, params: Object | None) -> "Given":
        fixed = {**scene.variables, "params": params, "variables": {}}
        given = Given(scene, {name: fixed[name] for name in self._known})
        for name, program in self._variables:
            given.add(name, program)
        return given

    def compiled(self, source: str) -> Program:
        return compile_expression(source, self._known)


class Given:
    """The variables of one evaluation; one that has no value is missed only by who needs it."""

    def __init__(self, scene: Scene, variables: dict[str, Any]) -> None:
        self._scene = scene
        self._variables = variables
        self._failed: dict[str, str] = {}

    def add(self, name: str, program: Program) -> None:
        try:
            self._variables["variables"][name] = self._scene.evaluate(program, self._variables)
        except CannotEvaluate as error:
            self._failed[name] = str(error)

    def value(self, program: Program) -> Any:
        try:
            return self._scene.evaluate(program, self._variables)
        except CannotEvaluate as error:
            missing = str(error).removeprefix("no such key: ")
            if missing in self._failed:
                why = f'composited variable "{missing}" fails to evaluate: {self._failed[missing]}'
                raise CannotEvaluate(why) from error
            raise


class ValidatingPolicy(Policy):
    @cached_property
    def _validations(self) -> list[Validation]:
        return [
            Validation(
                self.compiled(each["expression"]),
                each.get("message") or f"failed expression: {' '.join(each['expression'].split())}",
                self.compiled(told) if (told := each.get("messageExpression")) else None,
                each.get("reason") or "Invalid",
            )
            for each in self.spec.get("validations") or ()
        ]

    def broken(self, scene: Scene, params: Object | None) -> list[tuple[str, str]]:
        """Messages and reasons of the validations that the attempt fails."""
        given = self.variables(scene, params)
        found = []
        for each in self._validations:
            try:
                if given.value(each.program) is not True:
                    found.append((_message(each, given), each.reason))
            except CannotEvaluate as error:
                if not self.ignores_failure:
                    source = each.program.source
                    why = f"expression '{source}' resulted in error: {error}"
                    found.append((why, "Invalid"))
        return found


def _message(validation: Validation, given: Given) -> str:
    if validation.told:
        try:
            text = given.value(validation.told)
        except CannotEvaluate:
            return validation.message
        if isinstance(text, str) and text.strip() and "\n" not in text:
            return text
    return validation.message


def refusal(scene: Scene, policy: str, binding: str, message: str, reason: str) -> ApiError:
    text = (
        f"ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}"
    )
    error = scene.attempt.refused(text)
    status = {"message": error.message, "reason": reason, "code": _CODES.get(reason, 422)}
    made = error_from_status(status)
    return type(made)(error.message, causes=[Cause("", text)], details=error.details)


class MutatingPolicy(Policy):
    @property
    def repeats(self) -> bool:
        return self.spec.get("reinvocationPolicy") == "IfNeeded"

    @cached_property
    def _mutations(self) -> list[tuple[bool, Program]]:
        """Programs, and whether their values are JSON patches."""
        return [
            (each["patchType"] == "JSONPatch", self.compiled(as_maps(source(each))))
            for each in self.spec.get("mutations") or ()
        ]

    def mutated(self, scene: Scene, params: Object | None) -> Object:
        """The attempt's object as the policy wants it; raise CannotEvaluate or ApiError."""
        attempt = scene.attempt
        for patches, program in self._mutations:
            value = self.variables(scene, params).value(program)
            if patches:
                attempt.object = copied(json_patch.apply(attempt.new, _operations(value)))
            else:
                attempt.object = _applied(scene, value)
        return attempt.new


def source(mutation: Object) -> str:
    field = "jsonPatch" if mutation["patchType"] == "JSONPatch" else "applyConfiguration"
    return str((mutation.get(field) or {}).get("expression", ""))


def _operations(value: Any) -> list[Object]:
    if not isinstance(value, list):
        raise CannotEvaluate("a JSON patch expression must give a list of JSONPatch")
    return [{"value": None, **each} if each.get("op") == "add" else each for each in value]


def _applied(scene: Scene, value: Any) -> Object:
    """The object with all that an apply configuration has, as server-side apply merges it."""
    attempt = scene.attempt
    if not isinstance(value, dict):
        raise CannotEvaluate("an apply configuration expression must give an Object")
    meta = value.get("metadata") or {}
    for field in ("name", "namespace", "uid"):
        if field in meta:
            raise CannotEvaluate(f"metadata.{field} may not be set by an apply configuration")
    schema = managed.schema_of(attempt.kind)
    return copied(server_side.merge(attempt.new, value, schema))  # type: ignore[no-any-return]


def misconfigured(scene: Scene, policy: str, binding: str, why: str) -> Forbidden:
    """The refusal for what cannot be decided at all."""
    return scene.attempt.refused(
        f"policy '{policy}' with binding '{binding}' denied request: {why}"
    )


def bound(policies: Iterable[Policy], bindings: Iterable[Binding]) -> list[tuple[Policy, Binding]]:
    """Each policy with each of its bindings, by name."""
    by_name = {policy.name: policy for policy in policies}
    pairs = [(by_name[b.policy], b) for b in bindings if b.policy in by_name]
    return sorted(pairs, key=lambda pair: (pair[0].name, pair[1].name))
