"""Who may do what: role-based access control, decided from the roles and bindings alone.

A `Policy` is an index from subject to rules, made from a snapshot of the four RBAC kinds, so that a
decision looks only at what is bound to the asking user and their groups. Two things are known
without any role: `system:masters` may do everything, and a node what its own Pods need.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from sampan.api.selectors import from_label_selector
from sampan.apiserver.identity import User

Object = dict[str, Any]

MASTERS: Final = "system:masters"
NODES: Final = "system:nodes"
NODE_PREFIX: Final = "system:node:"
_READ: Final = frozenset({"get", "list", "watch"})
_WRITE: Final = frozenset({"create", "update", "patch", "delete"})


class Attributes(Struct, frozen=True):
    """What is asked: a verb on a resource, or with *path* on something that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Rule(Struct, frozen=True):
    """One PolicyRule of a role."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Rule":
        return cls(
            verbs=frozenset(raw.get("verbs") or ()),
            groups=frozenset(raw.get("apiGroups") or ()),
            resources=frozenset(raw.get("resources") or ()),
            names=frozenset(raw.get("resourceNames") or ()),
            paths=tuple(raw.get("nonResourceURLs") or ()),
        )

    def allows(self, asked: Attributes) -> bool:
        if not (asked.verb in self.verbs or "*" in self.verbs):
            return False
        if asked.path:
            return any(_path_matches(pattern, asked.path) for pattern in self.paths)
        return (
            (asked.group in self.groups or "*" in self.groups)
            and self._covers(asked)
            and (not self.names or asked.name in self.names)
        )

    def _covers(self, asked: Attributes) -> bool:
        if "*" in self.resources or asked.full_resource in self.resources:
            return True
        return bool(asked.subresource) and f"*/{asked.subresource}" in self.resources


def _path_matches(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path


class Grant(Struct, frozen=True):
    """Rules that hold in *namespace*, or everywhere if that is empty; *source* says why."""

    rules: tuple[Rule, ...]
    namespace: str
    source: str


class Policy:
    """Every grant of a cluster, found by subject."""

    def __init__(
        self,
        grants: Mapping[str, Sequence[Grant]],
        roles: Mapping[tuple[str, str], tuple[Rule, ...]],
    ) -> None:
        self._grants = grants
        self._roles = roles

    @classmethod
    def of(
        cls,
        *,
        roles: Iterable[Object],
        cluster_roles: Iterable[Object],
        bindings: Iterable[Object],
        cluster_bindings: Iterable[Object],
    ) -> "Policy":
        rules = {("", role["metadata"]["name"]): role for role in cluster_roles}
        known = {key: _rules_of(role, rules.values()) for key, role in rules.items()}
        for role in roles:
            meta = role["metadata"]
            known[meta["namespace"], meta["name"]] = _rules_of(role, ())
        grants: dict[str, list[Grant]] = defaultdict(list)
        for binding in (*cluster_bindings, *bindings):
            grant = _grant(binding, known)
            for subject in binding.get("subjects") or ():
                grants[_subject_key(subject, grant.namespace)].append(grant)
        return cls(grants, known)

    def role(self, namespace: str, name: str) -> tuple[Rule, ...] | None:
        """The rules of a Role, or with no *namespace* of a ClusterRole; None if there is none."""
        return self._roles.get((namespace, name))

    def allows(self, user: User, asked: Attributes) -> str | None:
        """Return why it is allowed, or None if nothing allows it."""
        if MASTERS in user.groups:
            return ""
        if NODES in user.groups and node_allows(user, asked):
            return "a node may do what its Pods need"
        for grant in self._grants_of(user):
            if grant.namespace and (asked.path or asked.namespace != grant.namespace):
                continue
            if any(rule.allows(asked) for rule in grant.rules):
                return grant.source
        return None

    def rules(self, user: User, namespace: str) -> list[Rule]:
        """All rules that hold for *user* in *namespace*."""
        if MASTERS in user.groups:
            everything = frozenset({"*"})
            return [Rule(everything, everything, everything), Rule(everything, paths=("*",))]
        return [
            rule
            for grant in self._grants_of(user)
            if grant.namespace in {"", namespace}
            for rule in grant.rules
        ]

    def _grants_of(self, user: User) -> Iterable[Grant]:
        yield from self._grants.get(f"User/{user.name}", ())
        for group in user.groups:
            yield from self._grants.get(f"Group/{group}", ())


def _rules_of(role: Object, others: Iterable[Object]) -> tuple[Rule, ...]:
    """The role's own rules, and those that its aggregation rule selects among *others*."""
    raw = list(role.get("rules") or ())
    for term in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        selector = from_label_selector(term)
        for other in others:
            if selector and selector.matches(other["metadata"].get("labels") or {}):
                raw += other.get("rules") or ()
    return tuple(Rule.of(rule) for rule in raw)


def _grant(binding: Object, known: Mapping[tuple[str, str], tuple[Rule, ...]]) -> Grant:
    meta, ref = binding["metadata"], binding["roleRef"]
    namespace = meta.get("namespace", "")
    place = namespace if ref["kind"] == "Role" else ""
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    source = f'RBAC: allowed by {kind} "{meta["name"]}" of {ref["kind"]} "{ref["name"]}"'
    return Grant(known.get((place, ref["name"]), ()), namespace, source)


def _subject_key(subject: Object, namespace: str) -> str:
    if subject["kind"] == "ServiceAccount":
        place = subject.get("namespace") or namespace
        return f"User/system:serviceaccount:{place}:{subject['name']}"
    return f"{subject['kind']}/{subject['name']}"


_NODE_READS: Final = frozenset({
    ("", "pods"), ("", "services"), ("", "nodes"), ("", "namespaces"), ("", "configmaps"),
    ("", "secrets"), ("", "serviceaccounts"), ("", "endpoints"),
    ("", "persistentvolumeclaims"), ("", "persistentvolumes"),
    ("discovery.k8s.io", "endpointslices"), ("networking.k8s.io", "networkpolicies"),
    ("coordination.k8s.io", "leases"), ("node.k8s.io", "runtimeclasses"),
    ("storage.k8s.io", "storageclasses"), ("storage.k8s.io", "csidrivers"),
    ("scheduling.k8s.io", "priorityclasses"),
})  # fmt: skip


_NODE_WRITES: Final[Mapping[tuple[str, str, str], frozenset[str]]] = {
    ("", "nodes", ""): _WRITE,
    ("", "nodes", "status"): _WRITE,
    ("coordination.k8s.io", "leases", ""): _WRITE,
    ("", "events", ""): _WRITE - {"delete"},
    ("events.k8s.io", "events", ""): _WRITE - {"delete"},
    ("", "pods", ""): frozenset({"delete"}),
    ("", "persistentvolumes", ""): frozenset({"patch"}),
    ("", "pods", "status"): frozenset({"update", "patch"}),
    ("", "serviceaccounts", "token"): frozenset({"create"}),
    ("authentication.k8s.io", "tokenreviews", ""): frozenset({"create"}),
    ("authorization.k8s.io", "subjectaccessreviews", ""): frozenset({"create"}),
}
_OWN_ONLY: Final = frozenset({"nodes", "leases"})


def node_allows(user: User, asked: Attributes) -> bool:
    """Say whether a node may: read what Pods need, write itself, its Lease, Pods' status, Events.

    A node may not read all Secrets of a namespace at once, only those that it can name.
    """
    if asked.path:
        return asked.verb == "get" and asked.path.startswith("/sampan/v1/")
    if asked.verb in _READ:
        return _node_reads(asked)
    target = (asked.group, asked.resource, asked.subresource)
    if asked.verb not in _NODE_WRITES.get(target, ()):
        return False
    node = user.name.removeprefix(NODE_PREFIX)
    return asked.resource not in _OWN_ONLY or asked.name in {node, ""}


def _node_reads(asked: Attributes) -> bool:
    if (asked.group, asked.resource) not in _NODE_READS:
        return False
    return asked.resource != "secrets" or bool(asked.name)


def refusal(user: User, asked: Attributes) -> str:
    """Word the refusal as Kubernetes does."""
    if asked.path:
        return f'User "{user.name}" cannot {asked.verb} path "{asked.path}"'
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    return (
        f'User "{user.name}" cannot {asked.verb} resource "{asked.full_resource}" '
        f'in API group "{asked.group}" {where}'
    )
