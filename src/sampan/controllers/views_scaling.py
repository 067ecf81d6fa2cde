"""What controllers read of HorizontalPodAutoscalers."""

from datetime import datetime
from typing import Final

from msgspec import field

from sampan.api.kinds import BY_GVK
from sampan.api.objects import Condition, Object, Resource, View
from sampan.api.quantities import Quantity

AUTOSCALERS: Final = BY_GVK["autoscaling/v2", "HorizontalPodAutoscaler"]


class ScaleTarget(View):
    kind: str = ""
    name: str = ""
    api_version: str = ""


class Goal(View):
    """One of utilisation (percent of the requests), average a Pod, or value."""

    type: str = ""
    average_utilization: int | None = None
    average_value: Quantity | None = None
    value: Quantity | None = None


class ResourceMetric(View):
    name: str = ""
    container: str = ""
    target: Goal = Goal()


class Metric(View):
    type: str = ""
    resource: ResourceMetric | None = None
    container_resource: ResourceMetric | None = None


class Policy(View):
    type: str = "Pods"
    value: int = 0
    period_seconds: int = 15


class Rules(View):
    stabilization_window_seconds: int | None = None
    select_policy: str = "Max"
    policies: list[Policy] = field(default_factory=list)
    tolerance: Quantity | None = None


class Behaviour(View):
    scale_up: Rules | None = None
    scale_down: Rules | None = None


class AutoscalerSpec(View):
    scale_target_ref: ScaleTarget = ScaleTarget()
    min_replicas: int = 1
    max_replicas: int = 1
    metrics: list[Metric] = field(default_factory=list)
    behavior: Behaviour = Behaviour()


class AutoscalerStatus(View):
    observed_generation: int = 0
    last_scale_time: datetime | None = None
    current_replicas: int | None = None
    desired_replicas: int | None = None
    current_metrics: list[Object] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)


class Autoscaler(Resource):
    KIND = AUTOSCALERS
    spec: AutoscalerSpec = AutoscalerSpec()
    status: AutoscalerStatus = AutoscalerStatus()
