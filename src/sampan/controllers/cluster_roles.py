"""Write into every aggregated ClusterRole the rules of those that it gathers.

The authorizer gathers them by itself; what is written here is what people and their tools read.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import field

from sampan.api import kinds
from sampan.api.objects import Object, Resource, View
from sampan.api.selectors import from_label_selector
from sampan.client.cache import Delta
from sampan.controllers.plan import Action, Controller, Patch, Reader, World, for_each


class Aggregation(View):
    cluster_role_selectors: list[Object] = field(default_factory=list)


class ClusterRole(Resource):
    KIND = kinds.CLUSTER_ROLES
    rules: list[Object] | None = None
    aggregation_rule: Aggregation | None = None


def reconcile(role: ClusterRole, world: World) -> Iterator[Action]:
    if role.aggregation_rule is None or role.metadata.deleting:
        return
    rules = gathered(role, world.objects.all(ClusterRole))
    if rules != (role.rules or []):
        yield Patch(role, {"rules": rules})


def gathered(role: ClusterRole, others: Iterable[ClusterRole]) -> list[Object]:
    """Return the rules of all that *role* selects, by name, each once."""
    rules: list[Object] = []
    for other in sorted(others, key=lambda other: other.metadata.name):
        if other is not role and _selects(role, other):
            rules += [rule for rule in other.rules or () if rule not in rules]
    return rules


def _selects(role: ClusterRole, other: ClusterRole) -> bool:
    terms = role.aggregation_rule.cluster_role_selectors if role.aggregation_rule else []
    selectors = map(from_label_selector, terms)
    return any(selector and selector.matches(other.metadata.labels) for selector in selectors)


def _gathering(_delta: Delta[ClusterRole], objects: Reader) -> Iterable[str]:
    """Any role may be part of, or no longer be part of, any aggregated one: they are few."""
    return [r.metadata.name for r in objects.all(ClusterRole) if r.aggregation_rule is not None]


CONTROLLER: Final = Controller(
    "clusterrole-aggregation-controller",
    {ClusterRole: _gathering},
    for_each(ClusterRole, reconcile),
    workers=1,
)
