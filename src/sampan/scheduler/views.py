"""What the scheduler reads of a Pod; `Pod.spec` holds nothing that does not decide placement."""

from datetime import datetime

from msgspec import field

from sampan.api import kinds
from sampan.api.objects import (
    Condition,
    ContainerPort,
    Object,
    Resource,
    Resources,
    Toleration,
    View,
)


class Container(View):
    image: str = ""
    ports: list[ContainerPort] = field(default_factory=list)
    resources: Resources = Resources()
    restart_policy: str = ""


class PodVolume(View):
    """The volumes that bind a Pod to nodes; others have neither claim nor template."""

    name: str = ""
    persistent_volume_claim: Object | None = None
    ephemeral: Object | None = None


class PodSpec(View):
    node_name: str = ""
    containers: list[Container] = field(default_factory=list)
    init_containers: list[Container] = field(default_factory=list)
    resources: Resources = Resources()
    overhead: dict[str, str | int | float] = field(default_factory=dict)
    node_selector: dict[str, str] = field(default_factory=dict)
    affinity: Object = field(default_factory=dict)
    tolerations: list[Toleration] = field(default_factory=list)
    topology_spread_constraints: list[Object] = field(default_factory=list)
    scheduling_gates: list[Object] = field(default_factory=list)
    scheduler_name: str = "default-scheduler"
    priority: int = 0
    preemption_policy: str = "PreemptLowerPriority"
    volumes: list[PodVolume] = field(default_factory=list)


class PodStatus(View):
    phase: str = "Pending"
    conditions: list[Condition] = field(default_factory=list)
    nominated_node_name: str = ""
    start_time: datetime | None = None


class Pod(Resource):
    KIND = kinds.PODS
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def owner(self) -> str:
        """The uid of the controller that made this Pod, "" without one."""
        controller = self.metadata.controller
        return controller.uid if controller else ""

    @property
    def finished(self) -> bool:
        return self.status.phase in {"Succeeded", "Failed"}
