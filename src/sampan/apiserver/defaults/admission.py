"""Defaults of admission's own kinds, and of LimitRanges.

Sources: Kubernetes, pkg/apis/admissionregistration/v1 and pkg/apis/core/v1, defaults.go.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sampan.api.objects import Object

_GROUP: Final = "admissionregistration.k8s.io"


def default_mutating_webhooks(obj: Object) -> None:
    default_webhooks(obj)
    for hook in obj.get("webhooks") or ():
        hook.setdefault("reinvocationPolicy", "Never")


def default_webhooks(obj: Object) -> None:
    for hook in obj.get("webhooks") or ():
        hook.setdefault("failurePolicy", "Fail")
        hook.setdefault("timeoutSeconds", 10)
        _default_match(hook, ("rules",))
        service = (hook.get("clientConfig") or {}).get("service")
        if service is not None:
            service.setdefault("port", 443)


def _default_match(match: Object, rules: Iterable[str]) -> None:
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for field in rules:
        for rule in match.get(field) or ():
            rule.setdefault("scope", "*")


def default_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("failurePolicy", "Fail")
    if (constraints := spec.get("matchConstraints")) is not None:
        _default_match(constraints, ("resourceRules", "excludeResourceRules"))


def default_policy_binding(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if (match := spec.get("matchResources")) is not None:
        _default_match(match, ("resourceRules", "excludeResourceRules"))


def default_limit_range(obj: Object) -> None:
    """Let limits follow from maxima, and requests from limits or minima."""
    for item in (obj.get("spec") or {}).get("limits") or ():
        if item.get("type") != "Container":
            continue
        default = {**(item.get("max") or {}), **(item.get("default") or {})}
        requests = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
        if default:
            item["default"] = default
        if requests:
            item["defaultRequest"] = requests


BY_RESOURCE: Final[Mapping[str, Callable[[Object], None]]] = {
    "limitranges": default_limit_range,
    f"mutatingwebhookconfigurations.{_GROUP}": default_mutating_webhooks,
    f"validatingwebhookconfigurations.{_GROUP}": default_webhooks,
    f"mutatingadmissionpolicies.{_GROUP}": default_policy,
    f"validatingadmissionpolicies.{_GROUP}": default_policy,
    f"mutatingadmissionpolicybindings.{_GROUP}": default_policy_binding,
    f"validatingadmissionpolicybindings.{_GROUP}": default_policy_binding,
}
