"""What controllers read of workloads with identities, and of what belongs to them."""

from typing import Any

from msgspec import field

from sampan.api import kinds
from sampan.api.objects import Condition, IntOrString, Object, Resource, View
from sampan.controllers.views import ReplicaSetStatus


class ReplicationControllerSpec(View):
    replicas: int = 1
    min_ready_seconds: int = 0
    selector: dict[str, str] = field(default_factory=dict)
    template: Object = field(default_factory=dict)


class ReplicationController(Resource):
    KIND = kinds.REPLICATION_CONTROLLERS
    spec: ReplicationControllerSpec = ReplicationControllerSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()


class ControllerRevision(Resource):
    """A template that a StatefulSet or DaemonSet has or had; *data* is a patch that brings it."""

    KIND = kinds.CONTROLLER_REVISIONS
    data: Any = None
    revision: int = 0


class Ordinals(View):
    start: int = 0


class StatefulUpdate(View):
    partition: int = 0
    max_unavailable: IntOrString = 1


class StatefulStrategy(View):
    type: str = "RollingUpdate"
    rolling_update: StatefulUpdate = StatefulUpdate()


class Retention(View):
    """What becomes of the claims of a set that is deleted, and of replicas that it gives up."""

    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


class StatefulSetSpec(View):
    replicas: int = 1
    min_ready_seconds: int = 0
    service_name: str = ""
    pod_management_policy: str = "OrderedReady"
    revision_history_limit: int = 10
    ordinals: Ordinals = Ordinals()
    update_strategy: StatefulStrategy = StatefulStrategy()
    persistent_volume_claim_retention_policy: Retention = Retention()
    selector: Object = field(default_factory=dict)
    template: Object = field(default_factory=dict)
    volume_claim_templates: list[Object] = field(default_factory=list)


class StatefulSetStatus(View):
    observed_generation: int = 0
    replicas: int | None = None
    ready_replicas: int = 0
    available_replicas: int | None = None
    current_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    collision_count: int | None = None
    conditions: list[Condition] = field(default_factory=list)


class StatefulSet(Resource):
    KIND = kinds.STATEFUL_SETS
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class DaemonUpdate(View):
    max_surge: IntOrString = 0
    max_unavailable: IntOrString = 1


class DaemonStrategy(View):
    type: str = "RollingUpdate"
    rolling_update: DaemonUpdate = DaemonUpdate()


class DaemonSetSpec(View):
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    update_strategy: DaemonStrategy = DaemonStrategy()
    selector: Object = field(default_factory=dict)
    template: Object = field(default_factory=dict)


class DaemonSetStatus(View):
    """Of the numbers that Kubernetes requires, none is left out when it is 0."""

    current_number_scheduled: int | None = None
    desired_number_scheduled: int | None = None
    number_misscheduled: int | None = None
    number_ready: int | None = None
    number_available: int = 0
    number_unavailable: int = 0
    updated_number_scheduled: int = 0
    observed_generation: int = 0
    collision_count: int | None = None
    conditions: list[Condition] = field(default_factory=list)


class DaemonSet(Resource):
    KIND = kinds.DAEMON_SETS
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()
