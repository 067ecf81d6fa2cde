"""The roles and bindings that every Kubernetes cluster starts with.

Source: Kubernetes documentation, "Using RBAC Authorization", default roles and role bindings.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

Object = dict[str, Any]

_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")
_LABELS: Final = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS: Final = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
_AUTHENTICATED: Final = "system:authenticated"
_ANYONE: Final = "system:unauthenticated"

_VIEWED: Final = (
    ("", (
        "bindings", "configmaps", "endpoints", "events", "limitranges", "namespaces",
        "namespaces/status", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods",
        "pods/log", "pods/status", "replicationcontrollers", "replicationcontrollers/scale",
        "replicationcontrollers/status", "resourcequotas", "resourcequotas/status",
        "serviceaccounts", "services", "services/status",
    )),
    ("apps", (
        "controllerrevisions", "daemonsets", "daemonsets/status", "deployments",
        "deployments/scale", "deployments/status", "replicasets", "replicasets/scale",
        "replicasets/status", "statefulsets", "statefulsets/scale", "statefulsets/status",
    )),
    ("autoscaling", ("horizontalpodautoscalers", "horizontalpodautoscalers/status")),
    ("batch", ("cronjobs", "cronjobs/status", "jobs", "jobs/status")),
    ("discovery.k8s.io", ("endpointslices",)),
    ("metrics.k8s.io", ("nodes", "pods")),
    ("networking.k8s.io", ("ingresses", "ingresses/status", "networkpolicies")),
    ("policy", ("poddisruptionbudgets", "poddisruptionbudgets/status")),
)  # fmt: skip
_EDITED: Final = (
    ("", (
        "configmaps", "events", "persistentvolumeclaims", "pods", "pods/attach",
        "pods/eviction", "pods/exec", "pods/portforward", "pods/proxy",
        "replicationcontrollers", "replicationcontrollers/scale", "secrets",
        "serviceaccounts", "services", "services/proxy",
    )),
    ("apps", (
        "daemonsets", "deployments", "deployments/rollback", "deployments/scale",
        "replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale",
    )),
    ("autoscaling", ("horizontalpodautoscalers",)),
    ("batch", ("cronjobs", "jobs")),
    ("coordination.k8s.io", ("leases",)),
    ("networking.k8s.io", ("ingresses", "networkpolicies")),
    ("policy", ("poddisruptionbudgets",)),
)  # fmt: skip
_INFO_PATHS: Final = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_DISCOVERY_PATHS: Final = (
    "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*",
    "/readyz", "/version", "/version/",
)  # fmt: skip


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> Object:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def _paths(paths: Sequence[str], verbs: Sequence[str] = ("get",)) -> Object:
    return {"nonResourceURLs": list(paths), "verbs": list(verbs)}


_VIEW: Final = [_rule(group, resources, _READ) for group, resources in _VIEWED]
_EDIT: Final = [
    *_VIEW,
    _rule("", ("secrets", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy",
               "services/proxy"), _READ),
    _rule("", ("serviceaccounts",), ("impersonate",)),
    _rule("", ("serviceaccounts/token",), ("create",)),
    *(_rule(group, resources, _WRITE) for group, resources in _EDITED),
    _rule("coordination.k8s.io", ("leases",), _READ),
]  # fmt: skip
_ADMIN: Final = [
    *_EDIT,
    _rule("authorization.k8s.io", ("localsubjectaccessreviews",), ("create",)),
    _rule("rbac.authorization.k8s.io", ("rolebindings", "roles"), (*_READ, *_WRITE)),
]
_SELF_REVIEWS: Final = [
    _rule("authorization.k8s.io", ("selfsubjectaccessreviews", "selfsubjectrulesreviews"),
          ("create",)),
    _rule("authentication.k8s.io", ("selfsubjectreviews",), ("create",)),
]  # fmt: skip

_ROLES: Final[dict[str, list[Object]]] = {
    "cluster-admin": [_rule("*", ("*",), ("*",)), _paths(("*",), ("*",))],
    "admin": _ADMIN,
    "edit": _EDIT,
    "view": _VIEW,
    "system:basic-user": _SELF_REVIEWS,
    "system:discovery": [_paths(_DISCOVERY_PATHS)],
    "system:public-info-viewer": [_paths(_INFO_PATHS)],
    "system:monitoring": [
        _paths(("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*"))
    ],
    "system:auth-delegator": [
        _rule("authentication.k8s.io", ("tokenreviews",), ("create",)),
        _rule("authorization.k8s.io", ("subjectaccessreviews",), ("create",)),
    ],
    "system:service-account-issuer-discovery": [
        _paths(("/.well-known/openid-configuration", "/openid/v1/jwks"))
    ],
}
_BINDINGS: Final[dict[str, tuple[str, ...]]] = {
    "cluster-admin": ("system:masters",),
    "system:basic-user": (_AUTHENTICATED,),
    "system:discovery": (_AUTHENTICATED,),
    "system:public-info-viewer": (_AUTHENTICATED, _ANYONE),
    "system:monitoring": ("system:monitoring",),
    "system:service-account-issuer-discovery": ("system:serviceaccounts",),
}
_AGGREGATED: Final = ("admin", "edit", "view")
_API: Final = "rbac.authorization.k8s.io/v1"


def cluster_roles() -> list[Object]:
    """`admin`, `edit` and `view` also collect the roles that are labelled for them."""
    return [_cluster_role(name, rules) for name, rules in _ROLES.items()]


def _cluster_role(name: str, rules: list[Object]) -> Object:
    role = {"apiVersion": _API, "kind": "ClusterRole", "metadata": _metadata(name), "rules": rules}
    if name in _AGGREGATED:
        label = f"rbac.authorization.k8s.io/aggregate-to-{name}"
        selector = {"matchLabels": {label: "true"}}
        role["aggregationRule"] = {"clusterRoleSelectors": [selector]}
    return role


def cluster_role_bindings() -> list[Object]:
    return [_cluster_role_binding(name, groups) for name, groups in _BINDINGS.items()]


def _cluster_role_binding(name: str, groups: Iterable[str]) -> Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": _API,
        "kind": "ClusterRoleBinding",
        "metadata": _metadata(name),
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": name} for name in groups],
    }


def _metadata(name: str) -> Object:
    return {"name": name, "labels": dict(_LABELS), "annotations": dict(_ANNOTATIONS)}
