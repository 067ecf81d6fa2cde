"""Nobody grants what they do not hold: what a role or a binding says is held against its writer.

Exempt is who may `escalate` the role, or `bind` the role that is referred to.
Source: Kubernetes documentation, "Using RBAC Authorization", privilege escalation prevention.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sampan.api.errors import Forbidden, NotFound
from sampan.api.kinds import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Kind
from sampan.api.objects import Object
from sampan.apiserver.authz import MASTERS, Attributes, Policy, Rule
from sampan.apiserver.identity import User

_GRANTING: Final = frozenset({ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS})
_EVERYTHING: Final = frozenset({"*"})


def concerns(kind: Kind, user: User) -> bool:
    return kind in _GRANTING and MASTERS not in user.groups


def check(policy: Policy, user: User, kind: Kind, obj: Object) -> None:
    """Raise Forbidden if *obj*, valid and about to be stored, grants more than *user* holds."""
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
    if kind in {ROLES, CLUSTER_ROLES}:
        rules, verb, role_kind, role = _granted(obj), "escalate", kind, name
    else:
        role_kind, role, rules = _referred(policy, obj, namespace)
        verb = "bind"
    if policy.allows(user, _about(verb, role_kind, namespace, role)) is not None:
        return
    missing = [rule for rule in rules if not _held(policy, user, rule, namespace)]
    if missing:
        listed = "\n".join(map(_words, missing))
        raise Forbidden(
            f'{kind.resource} "{name}" is forbidden: user "{user.name}" is attempting to grant '
            f"RBAC permissions not currently held:\n{listed}"
        )


def _granted(role: Object) -> Sequence[Rule]:
    rules = [Rule.of(rule) for rule in role.get("rules") or ()]
    if role.get("aggregationRule"):
        rules.append(Rule(_EVERYTHING, _EVERYTHING, _EVERYTHING))
    return rules


def _referred(policy: Policy, binding: Object, namespace: str) -> tuple[Kind, str, Sequence[Rule]]:
    ref: dict[str, Any] = binding.get("roleRef") or {}
    kind = ROLES if ref.get("kind") == ROLES.kind else CLUSTER_ROLES
    name = str(ref.get("name", ""))
    rules = policy.role(namespace if kind is ROLES else "", name)
    if rules is None:
        raise NotFound(f'{kind.resource} "{name}" not found')
    return kind, name, rules


def _about(verb: str, kind: Kind, namespace: str, name: str) -> Attributes:
    place = namespace if kind.namespaced else ""
    return Attributes(verb, kind.group, kind.plural, namespace=place, name=name)


def _held(policy: Policy, user: User, rule: Rule, namespace: str) -> bool:
    own = policy.rules(user, namespace)
    return all(any(held.allows(asked) for held in own) for asked in _parts(rule, namespace))


def _parts(rule: Rule, namespace: str) -> Iterable[Attributes]:
    """Take a rule apart into single permissions; a wildcard stays one and needs a wildcard."""
    for verb in rule.verbs:
        for path in rule.paths:
            yield Attributes(verb, path=path)
        for group in rule.groups:
            for full in rule.resources:
                resource, _, subresource = full.partition("/")
                for name in rule.names or ("",):
                    yield Attributes(verb, group, resource, subresource, namespace, name)


def _words(rule: Rule) -> str:
    parts = {
        "NonResourceURLs": list(rule.paths),
        "APIGroups": sorted(rule.groups),
        "Resources": sorted(rule.resources),
        "ResourceNames": sorted(rule.names),
        "Verbs": sorted(rule.verbs),
    }
    return f"{{{', '.join(f'{name}:{value}' for name, value in parts.items() if value)}}}"
