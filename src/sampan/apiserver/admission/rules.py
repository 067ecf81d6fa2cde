"""Rules of webhook configurations and admission policies; their expressions must compile.

Source: Kubernetes, pkg/apis/admissionregistration/validation.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from sampan.api.errors import Cause
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.admission import security
from sampan.apiserver.admission.conditions import KNOWN
from sampan.apiserver.admission.policies import known, source
from sampan.apiserver.admission.resource_rules import validate_limit_range, validate_quota
from sampan.apiserver.expressions import CannotCompile, TypeName, compile_expression
from sampan.apiserver.expressions.literals import as_maps
from sampan.apiserver.problems import bad_value, duplicate, not_allowed, required, unsupported
from sampan.apiserver.validation import names
from sampan.apiserver.validation.workloads import validate_label_selector

_OPERATIONS: Final = ("*", "CREATE", "UPDATE", "DELETE", "CONNECT")
_SCOPES: Final = ("Cluster", "Namespaced", "*")
_FAILURE: Final = ("Fail", "Ignore")
_MATCH: Final = ("Equivalent", "Exact")
_EFFECTS: Final = ("None", "NoneOnDryRun")
_REPEATS: Final = ("IfNeeded", "Never")
_VERSIONS: Final = ("v1",)
_LONGEST: Final = 30
_SEGMENTS: Final = 3
_REASONS: Final = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_ACTIONS: Final = ("Audit", "Deny", "Warn")
_NOT_FOUND: Final = ("Allow", "Deny")
_PATCHES: Final = ("ApplyConfiguration", "JSONPatch")


def validate_webhooks(obj: Object) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, hook in enumerate(obj.get("webhooks") or ()):
        here = f"webhooks[{index}]"
        name = hook.get("name", "")
        yield from _webhook_name(here, name)
        if name in seen:
            yield duplicate(f"{here}.name", name)
        seen.add(name)
        yield from _webhook(here, hook)


def _webhook_name(here: str, name: str) -> Iterator[Cause]:
    if wrong := names.subdomain(name):
        yield bad_value(f"{here}.name", name, wrong)
    elif len(name.split(".")) < _SEGMENTS:
        why = "should be a domain with at least three segments separated by dots"
        yield bad_value(f"{here}.name", name, why)


def _webhook(here: str, hook: Object) -> Iterator[Cause]:
    yield from _one_of(f"{here}.failurePolicy", hook.get("failurePolicy", "Fail"), _FAILURE)
    yield from _one_of(f"{here}.matchPolicy", hook.get("matchPolicy", "Equivalent"), _MATCH)
    yield from _one_of(f"{here}.sideEffects", hook.get("sideEffects"), _EFFECTS)
    yield from _one_of(
        f"{here}.reinvocationPolicy", hook.get("reinvocationPolicy", "Never"), _REPEATS
    )
    seconds = hook.get("timeoutSeconds", 10)
    if not 1 <= seconds <= _LONGEST:
        why = f"the timeout value must be between 1 and {_LONGEST} seconds"
        yield bad_value(f"{here}.timeoutSeconds", seconds, why)
    versions = hook.get("admissionReviewVersions") or ()
    if not versions:
        why = f"must specify one of {', '.join(_VERSIONS)}"
        yield required(f"{here}.admissionReviewVersions", why)
    elif not set(versions) & set(_VERSIONS):
        why = f"must include at least one of {', '.join(_VERSIONS)}"
        yield bad_value(f"{here}.admissionReviewVersions", list(versions), why)
    for index, rule in enumerate(hook.get("rules") or ()):
        yield from _rule(f"{here}.rules[{index}]", rule)
    yield from _selectors(here, hook)
    yield from _client_config(f"{here}.clientConfig", hook.get("clientConfig") or {})
    yield from _conditions(f"{here}.matchConditions", hook.get("matchConditions") or (), KNOWN)


def _selectors(here: str, match: Object) -> Iterator[Cause]:
    for field in ("namespaceSelector", "objectSelector"):
        yield from validate_label_selector(match.get(field) or {}, f"{here}.{field}")


def _one_of(field: str, value: Any, known_: tuple[str, ...]) -> Iterator[Cause]:
    if value is None:
        yield required(field)
    elif value not in known_:
        yield unsupported(field, value, known_)


def _rule(here: str, rule: Object) -> Iterator[Cause]:
    for field in ("operations", "apiGroups", "apiVersions", "resources"):
        values = rule.get(field) or ()
        if not values:
            yield required(f"{here}.{field}")
        elif "*" in values and len(values) > 1 and field != "resources":
            why = "if '*' is present, must not specify other values"
            yield bad_value(f"{here}.{field}", list(values), why)
    for index, operation in enumerate(rule.get("operations") or ()):
        if operation not in _OPERATIONS:
            yield unsupported(f"{here}.operations[{index}]", operation, _OPERATIONS)
    yield from _one_of(f"{here}.scope", rule.get("scope", "*"), _SCOPES)


def _client_config(here: str, config: Object) -> Iterator[Cause]:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield required(here, "exactly one of url or service is required")
    elif url is not None:
        yield from _url(f"{here}.url", url)
    elif service is not None:
        for field in ("name", "namespace"):
            if not service.get(field):
                yield required(f"{here}.service.{field}")


def _url(field: str, url: str) -> Iterator[Cause]:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        yield bad_value(field, url, f"url must be a valid URL: {error}{form}")
        return
    if parts.scheme != "https":
        yield bad_value(field, url, f"'https' is the only allowed URL scheme{form}")
    elif not host:
        yield bad_value(field, url, f"host must be specified{form}")
    elif parts.query or parts.fragment or parts.username:
        why = f"query, fragment and user information are not permitted in the URL{form}"
        yield bad_value(field, url, why)


def _conditions(
    here: str, terms: Iterable[Object], variables: Mapping[str, TypeName]
) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, term in enumerate(terms):
        name = term.get("name", "")
        if not name:
            yield required(f"{here}[{index}].name")
        elif wrong := names.qualified(name):
            yield bad_value(f"{here}[{index}].name", name, wrong)
        if name in seen:
            yield duplicate(f"{here}[{index}].name", name)
        seen.add(name)
        field = f"{here}[{index}].expression"
        yield from _expression(field, term.get("expression"), variables, wanted="bool")


def _expression(
    field: str,
    text: str | None,
    variables: Mapping[str, TypeName],
    *,
    wanted: str = "",
    compiled: str | None = None,
) -> Iterator[Cause]:
    """What is wrong with *text*, which is compiled as *compiled* if that is not the same."""
    if not (text or "").strip():
        yield required(field)
        return
    try:
        found = compile_expression(compiled or text or "", variables).type
    except CannotCompile as error:
        yield bad_value(field, text, str(error))
        return
    if wanted and found not in {wanted, "dyn"}:
        yield bad_value(field, text, f"must evaluate to {wanted}")


def validate_validating_policy(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from _policy(spec)
    validations = spec.get("validations") or ()
    if not validations and not spec.get("auditAnnotations"):
        why = "validations or auditAnnotations must be present"
        yield required("spec.validations", why)
    for index, each in enumerate(validations):
        here = f"spec.validations[{index}]"
        yield from _expression(
            f"{here}.expression", each.get("expression"), known(spec), wanted="bool"
        )
        if "messageExpression" in each:
            yield from _expression(
                f"{here}.messageExpression", each["messageExpression"], known(spec),
                wanted="string",
            )  # fmt: skip
        if "\n" in each.get("message", ""):
            why = "message must not contain line breaks"
            yield bad_value(f"{here}.message", each["message"], why)
        if "reason" in each:
            yield from _one_of(f"{here}.reason", each["reason"], _REASONS)
    for index, each in enumerate(spec.get("auditAnnotations") or ()):
        field = f"spec.auditAnnotations[{index}].valueExpression"
        yield from _expression(field, each.get("valueExpression"), known(spec))


def validate_mutating_policy(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from _policy(spec)
    yield from _one_of("spec.reinvocationPolicy", spec.get("reinvocationPolicy"), _REPEATS)
    mutations = spec.get("mutations") or ()
    if not mutations:
        yield required("spec.mutations")
    for index, each in enumerate(mutations):
        here = f"spec.mutations[{index}]"
        how = each.get("patchType")
        yield from _one_of(f"{here}.patchType", how, _PATCHES)
        if how in _PATCHES:
            field = "jsonPatch" if how == "JSONPatch" else "applyConfiguration"
            text = source(each)
            yield from _expression(
                f"{here}.{field}.expression", text, known(spec), compiled=as_maps(text)
            )


def _policy(spec: Object) -> Iterator[Cause]:
    yield from _one_of("spec.failurePolicy", spec.get("failurePolicy", "Fail"), _FAILURE)
    if param := spec.get("paramKind"):
        for field in ("apiVersion", "kind"):
            if not param.get(field):
                yield required(f"spec.paramKind.{field}")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield required("spec.matchConstraints")
    elif not constraints.get("resourceRules"):
        yield required("spec.matchConstraints.resourceRules")
    else:
        yield from _match("spec.matchConstraints", constraints)
    terms = spec.get("matchConditions") or ()
    yield from _conditions("spec.matchConditions", terms, known(spec, variables=False))
    for index, each in enumerate(spec.get("variables") or ()):
        here = f"spec.variables[{index}]"
        if not each.get("name"):
            yield required(f"{here}.name")
        yield from _expression(f"{here}.expression", each.get("expression"), known(spec))


def _match(here: str, match: Object) -> Iterator[Cause]:
    yield from _one_of(f"{here}.matchPolicy", match.get("matchPolicy", "Equivalent"), _MATCH)
    yield from _selectors(here, match)
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(field) or ()):
            yield from _rule(f"{here}.{field}[{index}]", rule)


def validate_validating_binding(obj: Object) -> Iterator[Cause]:
    yield from validate_mutating_binding(obj)
    actions = (obj.get("spec") or {}).get("validationActions") or ()
    if not actions:
        yield required("spec.validationActions")
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            yield unsupported(f"spec.validationActions[{index}]", action, _ACTIONS)
        if action in actions[:index]:
            yield duplicate(f"spec.validationActions[{index}]", action)
    if {"Deny", "Warn"} <= set(actions):
        why = (
            "must not contain both Deny and Warn (repeating the same validation failure "
            "information in the API response and headers serves no purpose)"
        )
        yield bad_value("spec.validationActions", list(actions), why)


def validate_mutating_binding(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    if not spec.get("policyName"):
        yield required("spec.policyName")
    if (ref := spec.get("paramRef")) is not None:
        if ref.get("name") and "selector" in ref:
            yield not_allowed("spec.paramRef.name", "name and selector are mutually exclusive")
        elif not ref.get("name") and "selector" not in ref:
            yield required("spec.paramRef", "one of name or selector must be specified")
        yield from _one_of(
            "spec.paramRef.parameterNotFoundAction", ref.get("parameterNotFoundAction"), _NOT_FOUND
        )
    yield from _match("spec.matchResources", spec.get("matchResources") or {})


_RULES: Final[Mapping[str, Callable[[Object], Iterable[Cause]]]] = {
    "namespaces": security.validate_labels,
    "limitranges": validate_limit_range,
    "resourcequotas": validate_quota,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": validate_webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": validate_webhooks,
    "mutatingadmissionpolicies.admissionregistration.k8s.io": validate_mutating_policy,
    "validatingadmissionpolicies.admissionregistration.k8s.io": validate_validating_policy,
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": validate_mutating_binding,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": validate_validating_binding,
}


def validate(kind: Kind, obj: Object) -> list[Cause]:
    """All rules about admission that a complete object of *kind* breaks."""
    rule = _RULES.get(kind.resource)
    return list(rule(obj)) if rule else []
