"""Narrow, frozen views of the objects the control plane reasons about.

The raw JSON object is the truth. A view names only the fields that somebody reads; it is made
with `Pod.of(raw)` and never written back: changes go to the API as patches, so that fields which
no view knows survive. Packages that need more of a kind define a wider view of their own.
"""

from datetime import datetime
from typing import Any, ClassVar, Self, dataclass_transform

from msgspec import Struct, convert, field

from sampan.api import kinds
from sampan.api.kinds import Kind

Object = dict[str, Any]
IntOrString = int | str


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class View(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A typed lens on a part of an object; fields it does not name are left alone."""


class OwnerReference(View):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class Metadata(View):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner_references: list[OwnerReference] = field(default_factory=list)
    finalizers: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """`namespace/name`, or just the name of what has no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def controller(self) -> OwnerReference | None:
        """The one owner that manages this object, if it has one."""
        return next((owner for owner in self.owner_references if owner.controller), None)

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp is not None


class Resource(View):
    KIND: ClassVar[Kind]
    metadata: Metadata = Metadata()

    @classmethod
    def of(cls, raw: Object) -> Self:
        """Read the fields this view names out of *raw*."""
        return convert(raw, cls, strict=False)


class Condition(View):
    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None
    last_update_time: datetime | None = None
    last_heartbeat_time: datetime | None = None
    last_probe_time: datetime | None = None
    observed_generation: int = 0


def condition(conditions: list[Condition], type_: str) -> Condition | None:
    return next((c for c in conditions if c.type == type_), None)


def is_true(conditions: list[Condition], type_: str) -> bool:
    found = condition(conditions, type_)
    return found is not None and found.status == "True"


class Taint(View):
    key: str
    value: str = ""
    effect: str = ""
    time_added: datetime | None = None


class Toleration(View):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        return bool(self.key) and self.value == taint.value


class ContainerPort(View):
    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = field(default="", name="hostIP")


class Resources(View):
    requests: dict[str, str | int | float] = field(default_factory=dict)
    limits: dict[str, str | int | float] = field(default_factory=dict)


class Container(View):
    name: str
    image: str = ""
    ports: list[ContainerPort] = field(default_factory=list)
    resources: Resources = Resources()
    restart_policy: str = ""


class ClaimSource(View):
    claim_name: str = ""
    read_only: bool = False


class PodVolume(View):
    """A volume of a Pod, as far as storage that outlives the Pod is concerned."""

    name: str = ""
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: Object | None = None
    host_path: Object | None = None
    empty_dir: Object | None = None

    @property
    def local(self) -> bool:
        """Whether it has data that does not follow a Pod to another node, or may not."""
        kept = (self.persistent_volume_claim, self.ephemeral, self.host_path)
        scratch = self.empty_dir is not None and self.empty_dir.get("medium") != "Memory"
        return scratch or any(source is not None for source in kept)


class PodSpec(View):
    """What schedulers and controllers read of a Pod; the agent has a wider view."""

    node_name: str = ""
    containers: list[Container] = field(default_factory=list)
    init_containers: list[Container] = field(default_factory=list)
    volumes: list[PodVolume] = field(default_factory=list)
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[Toleration] = field(default_factory=list)
    affinity: Object = field(default_factory=dict)
    topology_spread_constraints: list[Object] = field(default_factory=list)
    scheduling_gates: list[Object] = field(default_factory=list)
    scheduler_name: str = "default-scheduler"
    priority: int = 0
    preemption_policy: str = "PreemptLowerPriority"
    overhead: dict[str, str | int | float] = field(default_factory=dict)
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30


class PodIP(View):
    ip: str = ""


class ContainerStatus(View):
    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: Object = field(default_factory=dict)
    last_state: Object = field(default_factory=dict)


class PodStatus(View):
    phase: str = "Pending"
    conditions: list[Condition] = field(default_factory=list)
    pod_ip: str = field(default="", name="podIP")
    pod_ips: list[PodIP] = field(default_factory=list, name="podIPs")
    host_ip: str = field(default="", name="hostIP")
    start_time: datetime | None = None
    container_statuses: list[ContainerStatus] = field(default_factory=list)
    init_container_statuses: list[ContainerStatus] = field(default_factory=list)
    nominated_node_name: str = ""
    reason: str = ""


class Pod(Resource):
    KIND = kinds.PODS
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        return is_true(self.status.conditions, "Ready")

    @property
    def finished(self) -> bool:
        return self.status.phase in {"Succeeded", "Failed"}

    @property
    def live(self) -> bool:
        """Not finished and not on its way out."""
        return not self.finished and not self.metadata.deleting


class NodeAddress(View):
    type: str
    address: str


class NodeSpec(View):
    pod_cidr: str = field(default="", name="podCIDR")
    pod_cidrs: list[str] = field(default_factory=list, name="podCIDRs")
    unschedulable: bool = False
    taints: list[Taint] = field(default_factory=list)


class NodeStatus(View):
    capacity: dict[str, str | int | float] = field(default_factory=dict)
    allocatable: dict[str, str | int | float] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)
    addresses: list[NodeAddress] = field(default_factory=list)
    images: list[Object] = field(default_factory=list)


class Node(Resource):
    KIND = kinds.NODES
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        return is_true(self.status.conditions, "Ready")

    @property
    def internal_ip(self) -> str:
        return next((a.address for a in self.status.addresses if a.type == "InternalIP"), "")


class ServicePort(View):
    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: IntOrString = 0
    node_port: int = 0


class ServiceSpec(View):
    type: str = "ClusterIP"
    selector: dict[str, str] = field(default_factory=dict)
    ports: list[ServicePort] = field(default_factory=list)
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: list[str] = field(default_factory=list, name="clusterIPs")
    external_ips: list[str] = field(default_factory=list, name="externalIPs")
    external_name: str = ""
    session_affinity: str = "None"
    session_affinity_config: Object = field(default_factory=dict)
    publish_not_ready_addresses: bool = False
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    load_balancer_class: str = ""
    load_balancer_source_ranges: list[str] = field(default_factory=list)
    health_check_node_port: int = 0
    traffic_distribution: str = ""

    @property
    def headless(self) -> bool:
        return self.cluster_ip == "None"


class ServiceStatus(View):
    load_balancer: Object = field(default_factory=dict)


class Service(Resource):
    KIND = kinds.SERVICES
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointConditions(View):
    ready: bool = True
    serving: bool = True
    terminating: bool = False


class Endpoint(View):
    addresses: list[str] = field(default_factory=list)
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: Object = field(default_factory=dict)


class EndpointPort(View):
    name: str = ""
    port: int = 0
    protocol: str = "TCP"


class EndpointSlice(Resource):
    KIND = kinds.ENDPOINT_SLICES
    address_type: str = "IPv4"
    endpoints: list[Endpoint] = field(default_factory=list)
    ports: list[EndpointPort] = field(default_factory=list)

    @property
    def service(self) -> str:
        """The name of the Service, in the same namespace, that this slice belongs to."""
        return self.metadata.labels.get("kubernetes.io/service-name", "")


class LeaseSpec(View):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    renew_time: datetime | None = None


class Lease(Resource):
    KIND = kinds.LEASES
    spec: LeaseSpec = LeaseSpec()


class NamespaceSpec(View):
    finalizers: list[str] = field(default_factory=list)


class Namespace(Resource):
    KIND = kinds.NAMESPACES
    spec: NamespaceSpec = NamespaceSpec()


class ConfigMap(Resource):
    KIND = kinds.CONFIGMAPS
    data: dict[str, str] = field(default_factory=dict)
    binary_data: dict[str, str] = field(default_factory=dict)


class Secret(Resource):
    """*data* is base64, as on the wire."""

    KIND = kinds.SECRETS
    type: str = "Opaque"
    data: dict[str, str] = field(default_factory=dict)


class ServiceAccount(Resource):
    KIND = kinds.SERVICE_ACCOUNTS
