"""What controllers read of disruption budgets."""

from datetime import datetime
from typing import Final

from msgspec import field

from sampan.api.kinds import BY_GVK
from sampan.api.objects import Condition, IntOrString, Object, Resource, View

BUDGETS: Final = BY_GVK["policy/v1", "PodDisruptionBudget"]


class BudgetSpec(View):
    min_available: IntOrString | None = None
    max_unavailable: IntOrString | None = None
    selector: Object | None = None
    unhealthy_pod_eviction_policy: str = "IfHealthyBudget"


class BudgetStatus(View):
    """Of the numbers that Kubernetes requires, none is left out when it is 0."""

    observed_generation: int = 0
    disruptions_allowed: int | None = None
    current_healthy: int | None = None
    desired_healthy: int | None = None
    expected_pods: int | None = None
    disrupted_pods: dict[str, datetime] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)


class Budget(Resource):
    KIND = BUDGETS
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()
