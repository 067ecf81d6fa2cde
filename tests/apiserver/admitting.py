"""One object of each kind that has a say in admission."""

from typing import Final

from sampan.api import kinds
from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object

_GROUP: Final = "admissionregistration.k8s.io/v1"
_RULE: Final[Object] = {
    "operations": ["*"], "apiGroups": ["", "apps"], "apiVersions": ["*"], "resources": ["*", "*/*"],
    "scope": "*",
}  # fmt: skip
_SELECTORS: Final[Object] = {
    "namespaceSelector": {"matchExpressions": [{"key": "no", "operator": "DoesNotExist"}]},
    "objectSelector": {"matchLabels": {}},
}
_HOOK: Final[Object] = {
    "name": "h.hooks.example.com",
    "clientConfig": {"url": "https://127.0.0.1:1/x", "caBundle": "eA=="},
    "rules": [_RULE],
    "matchConditions": [{"name": "c", "expression": "object != null"}],
    "failurePolicy": "Ignore",
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    **_SELECTORS,
}
_CONSTRAINTS: Final[Object] = {"resourceRules": [_RULE], **_SELECTORS}
_BINDING: Final[Object] = {
    "policyName": "p",
    "paramRef": {"name": "c", "parameterNotFoundAction": "Allow"},
    "matchResources": _CONSTRAINTS,
}
_POLICY: Final[Object] = {
    "matchConstraints": _CONSTRAINTS,
    "matchConditions": [{"name": "c", "expression": "object != null"}],
    "variables": [{"name": "v", "expression": "object.metadata.name"}],
}

ADMITTING: Final[list[tuple[Kind, Object]]] = [
    (BY_GVK["v1", "LimitRange"], {"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "min": {"cpu": "1m"}, "max": {"cpu": "4"}, "default": {"cpu": "2"},
         "defaultRequest": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "9"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "9Gi"}}]}}),
    (BY_GVK["v1", "ResourceQuota"], {"metadata": {"name": "q"}, "spec": {
        "hard": {"cpu": "9", "limits.memory": "1Gi", "count/configmaps": "9"},
        "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]}}}),
    (kinds.NAMESPACES, {"metadata": {"name": "default", "labels": {
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.30"}}}),
    (BY_GVK[_GROUP, "MutatingWebhookConfiguration"],
     {"metadata": {"name": "m"}, "webhooks": [_HOOK]}),
    (BY_GVK[_GROUP, "ValidatingWebhookConfiguration"],
     {"metadata": {"name": "v"}, "webhooks": [_HOOK]}),
    (BY_GVK[_GROUP, "ValidatingAdmissionPolicyBinding"],
     {"metadata": {"name": "b"}, "spec": {**_BINDING, "validationActions": ["Deny"]}}),
    (BY_GVK[_GROUP, "MutatingAdmissionPolicyBinding"],
     {"metadata": {"name": "b"}, "spec": _BINDING}),
    (BY_GVK[_GROUP, "ValidatingAdmissionPolicy"], {"metadata": {"name": "p"}, "spec": {
        **_POLICY, "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "variables.v != 'x'", "messageExpression": "'no'"}]}}),
    (BY_GVK[_GROUP, "MutatingAdmissionPolicy"], {"metadata": {"name": "p"}, "spec": {
        **_POLICY, "reinvocationPolicy": "IfNeeded", "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": "Object{metadata: Object.metadata{labels: {'a': 'b'}}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {
                "expression": "[JSONPatch{op: 'test', path: '/kind', value: object.kind}]"}}]}}),
]  # fmt: skip
