"""Role-based access control, decided from roles and bindings alone."""

from typing import Any

import pytest

from sampan.apiserver import bootstrap
from sampan.apiserver.authz import Attributes, Policy, refusal
from sampan.apiserver.identity import ANONYMOUS, User

ALICE = User("alice", ("team", "system:authenticated"))


def role(*rules: dict[str, Any], name: str = "r", namespace: str = "") -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"metadata": meta, "rules": list(rules)}


def rule(verbs: str, resources: str, group: str = "", names: str = "") -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "resources": resources.split(","),
        "verbs": verbs.split(","),
        "resourceNames": names.split(",") if names else [],
    }


def binding(
    subject: dict[str, Any], *, role_kind: str = "ClusterRole", name: str = "r", namespace: str = ""
) -> dict[str, Any]:
    meta = {"name": "b", "namespace": namespace} if namespace else {"name": "b"}
    return {
        "metadata": meta,
        "subjects": [subject],
        "roleRef": {"kind": role_kind, "name": name},
    }


USER = {"kind": "User", "name": "alice"}
GROUP = {"kind": "Group", "name": "team"}


def policy(
    *rules: dict[str, Any], subject: dict[str, Any] = USER, namespace: str = "default"
) -> Policy:
    """*rules* granted to *subject* in *namespace*, or everywhere if that is empty."""
    bound = [binding(subject, namespace=namespace)]
    return Policy.of(
        roles=[],
        cluster_roles=[role(*rules)],
        bindings=bound if namespace else [],
        cluster_bindings=[] if namespace else bound,
    )


def asks(verb: str, resource: str, **more: str) -> Attributes:
    resource, _, subresource = resource.partition("/")
    where = {"namespace": "default", **more}
    return Attributes(verb, resource=resource, subresource=subresource, **where)


@pytest.mark.parametrize(
    ("granted", "asked", "allowed"),
    [
        (rule("get", "pods"), asks("get", "pods"), True),
        (rule("get", "pods"), asks("list", "pods"), False),
        (rule("get", "pods"), asks("get", "secrets"), False),
        (rule("get", "pods"), asks("get", "pods", group="apps"), False),
        (rule("get", "pods"), asks("get", "pods/log"), False),
        (rule("get", "pods/log"), asks("get", "pods/log"), True),
        (rule("get", "*/scale"), asks("get", "deployments/scale"), True),
        (rule("get", "*/scale"), asks("get", "deployments"), False),
        (rule("*", "*", "*"), asks("delete", "things/status", group="any"), True),
        (rule("get", "pods", names="web"), asks("get", "pods", name="web"), True),
        (rule("get", "pods", names="web"), asks("get", "pods", name="db"), False),
        (rule("list", "pods", names="web"), asks("list", "pods"), False),
        (rule("get", "pods"), asks("get", "pods", namespace="other"), False),
        (rule("get", "pods"), asks("get", "nodes", namespace=""), False),
    ],
)
def test_a_rule_allows_what_it_says(
    granted: dict[str, Any], asked: Attributes, *, allowed: bool
) -> None:
    assert (policy(granted).allows(ALICE, asked) is not None) is allowed


@pytest.mark.parametrize("subject", [USER, GROUP])
def test_a_grant_reaches_users_by_name_and_by_group(subject: dict[str, Any]) -> None:
    found = policy(rule("get", "pods"), subject=subject)
    assert "RoleBinding" in str(found.allows(ALICE, asks("get", "pods")))
    assert found.allows(ANONYMOUS, asks("get", "pods")) is None


def test_a_service_account_is_bound_by_kind_and_in_the_bindings_namespace() -> None:
    found = policy(rule("get", "pods"), subject={"kind": "ServiceAccount", "name": "bot"})
    assert found.allows(User("system:serviceaccount:default:bot"), asks("get", "pods")) is not None
    assert found.allows(User("system:serviceaccount:other:bot"), asks("get", "pods")) is None


def test_cluster_bindings_hold_everywhere_and_for_paths() -> None:
    paths = {"nonResourceURLs": ["/healthz", "/logs/*"], "verbs": ["get"]}
    found = policy(rule("get", "nodes,pods"), paths, namespace="")
    assert found.allows(ALICE, asks("get", "nodes", namespace="")) is not None
    assert found.allows(ALICE, asks("get", "pods", namespace="any")) is not None
    for path, allowed in (("/healthz", True), ("/healthz/x", False), ("/logs/a", True)):
        assert (found.allows(ALICE, Attributes("get", path=path)) is not None) is allowed


def test_paths_are_not_granted_by_a_namespaces_binding() -> None:
    found = policy({"nonResourceURLs": ["*"], "verbs": ["*"]}, namespace="default")
    assert found.allows(ALICE, Attributes("get", path="/metrics")) is None


def test_a_role_of_a_namespace_is_found_by_its_bindings() -> None:
    found = Policy.of(
        roles=[role(rule("get", "pods"), namespace="default")],
        cluster_roles=[role(rule("*", "*", "*"))],
        bindings=[binding(USER, role_kind="Role", namespace="default")],
        cluster_bindings=[],
    )
    assert found.allows(ALICE, asks("get", "pods")) is not None
    assert found.allows(ALICE, asks("delete", "pods")) is None


def test_a_binding_without_its_role_grants_nothing() -> None:
    found = Policy.of(
        roles=[], cluster_roles=[], bindings=[], cluster_bindings=[binding(USER, name="gone")]
    )
    assert found.allows(ALICE, asks("get", "pods")) is None
    assert found.role("", "gone") is None


def test_masters_may_everything_and_a_stranger_nothing() -> None:
    found = policy()
    assert found.allows(User("root", ("system:masters",)), asks("any", "thing")) is not None
    assert found.allows(ALICE, asks("get", "pods")) is None


def test_aggregated_roles_collect_what_is_labelled_for_them() -> None:
    extra = role(rule("get", "boats", "sea"), name="boats")
    extra["metadata"]["labels"] = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    found = Policy.of(
        roles=[],
        cluster_roles=[*bootstrap.cluster_roles(), extra],
        bindings=[binding(USER, name="view", namespace="default")],
        cluster_bindings=[],
    )
    assert found.allows(ALICE, asks("get", "boats", group="sea")) is not None
    assert found.allows(ALICE, asks("get", "pods/log")) is not None
    assert found.allows(ALICE, asks("get", "secrets")) is None


def test_a_refusal_says_who_what_and_where() -> None:
    assert refusal(ALICE, asks("get", "pods/log")) == (
        'User "alice" cannot get resource "pods/log" in API group "" in the namespace "default"'
    )
    assert "at the cluster scope" in refusal(ALICE, asks("get", "nodes", namespace=""))
    assert refusal(ALICE, Attributes("get", path="/x")) == 'User "alice" cannot get path "/x"'
