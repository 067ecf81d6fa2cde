"""The agent's wide view of a Pod: all that is needed to run it."""

from typing import Final

from msgspec import field

from sampan.api import kinds
from sampan.api.objects import ContainerPort, IntOrString, Object, Resource, Resources, View

AFTER: Final = "sampan.io/after"
DEFAULT_TERMINATION_LOG: Final = "/dev/termination-log"


class ExecAction(View):
    command: list[str] = field(default_factory=list)


class HttpHeader(View):
    name: str
    value: str = ""


class HttpGet(View):
    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: list[HttpHeader] = field(default_factory=list)


class TcpSocket(View):
    port: IntOrString
    host: str = ""


class Grpc(View):
    port: int
    service: str = ""


class Sleep(View):
    seconds: int = 0


class Handler(View):
    """What a lifecycle hook does."""

    exec: ExecAction | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    sleep: Sleep | None = None


class Lifecycle(View):
    post_start: Handler | None = None
    pre_stop: Handler | None = None


class Probe(View):
    exec: ExecAction | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class VolumeMount(View):
    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""
    sub_path_expr: str = ""
    mount_propagation: str = "None"


class ExitCodes(View):
    operator: str = "In"
    values: list[int] = field(default_factory=list)


class RestartRule(View):
    """What is to happen after certain ends, whatever the policy says."""

    action: str = "Restart"
    exit_codes: ExitCodes = ExitCodes()

    def restarts(self, exit_code: int) -> bool:
        within = exit_code in self.exit_codes.values
        return self.action == "Restart" and within is (self.exit_codes.operator == "In")


class ResizePolicy(View):
    resource_name: str = ""
    restart_policy: str = "NotRequired"


class ContainerSpec(View):
    name: str
    image: str = ""
    image_pull_policy: str = ""
    command: list[str] = field(default_factory=list)
    args: list[str] = field(default_factory=list)
    working_dir: str = ""
    env: list[Object] = field(default_factory=list)
    env_from: list[Object] = field(default_factory=list)
    ports: list[ContainerPort] = field(default_factory=list)
    resources: Resources = Resources()
    volume_mounts: list[VolumeMount] = field(default_factory=list)
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    security_context: Object = field(default_factory=dict)
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    termination_message_path: str = DEFAULT_TERMINATION_LOG
    termination_message_policy: str = "File"
    restart_policy: str = ""
    restart_policy_rules: list[RestartRule] = field(default_factory=list)
    resize_policy: list[ResizePolicy] = field(default_factory=list)
    target_container_name: str = ""
    """Of an ephemeral container: whose processes it sees."""

    @property
    def sidecar(self) -> bool:
        """Of an init container: whether it goes on running beside the others."""
        return self.restart_policy == "Always"

    @property
    def pull_policy(self) -> str:
        """The policy asked for, or what the API defaults it to."""
        if self.image_pull_policy:
            return self.image_pull_policy
        _, _, last = self.image.rpartition("/")
        tag = last.partition("@")[0].partition(":")[2]
        untagged = "@" not in last and tag in {"", "latest"}
        return "Always" if untagged else "IfNotPresent"


class HostAlias(View):
    ip: str
    hostnames: list[str] = field(default_factory=list)


class LocalReference(View):
    name: str = ""


class ReadinessGate(View):
    condition_type: str


class NodePodSpec(View):
    node_name: str = ""
    containers: list[ContainerSpec] = field(default_factory=list)
    init_containers: list[ContainerSpec] = field(default_factory=list)
    ephemeral_containers: list[ContainerSpec] = field(default_factory=list)
    volumes: list[Object] = field(default_factory=list)
    priority: int = 0
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    service_account_name: str = ""
    host_network: bool = False
    host_pid: bool = field(default=False, name="hostPID")
    host_ipc: bool = field(default=False, name="hostIPC")
    share_process_namespace: bool = False
    security_context: Object = field(default_factory=dict)
    image_pull_secrets: list[LocalReference] = field(default_factory=list)
    hostname: str = ""
    subdomain: str = ""
    host_aliases: list[HostAlias] = field(default_factory=list)
    dns_policy: str = "ClusterFirst"
    dns_config: Object = field(default_factory=dict)
    enable_service_links: bool = True
    readiness_gates: list[ReadinessGate] = field(default_factory=list)


class NodePod(Resource):
    KIND = kinds.PODS
    spec: NodePodSpec = NodePodSpec()
    status: Object = field(default_factory=dict)

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def finished(self) -> bool:
        """Whether the API already says that it has ended for good."""
        return self.status.get("phase") in {"Succeeded", "Failed"}

    @property
    def own_containers(self) -> list[ContainerSpec]:
        """What the Pod was made with; somebody may have put others in, to look into it."""
        return [*self.spec.init_containers, *self.spec.containers]

    @property
    def every_container(self) -> list[ContainerSpec]:
        return [*self.own_containers, *self.spec.ephemeral_containers]

    def is_ephemeral(self, container: ContainerSpec) -> bool:
        return any(c.name == container.name for c in self.spec.ephemeral_containers)

    @property
    def long_running(self) -> list[ContainerSpec]:
        """The containers proper, and the sidecars that go with them."""
        return [*(c for c in self.spec.init_containers if c.sidecar), *self.spec.containers]

    def container(self, name: str) -> ContainerSpec | None:
        return next((c for c in self.every_container if c.name == name), None)

    @property
    def hostname(self) -> str:
        return (self.spec.hostname or self.metadata.name)[:63].rstrip("-.")

    def described(self) -> str:
        """How kubelets name a Pod in messages."""
        return f"{self.metadata.name}_{self.metadata.namespace}({self.uid})"


def port_number(container: ContainerSpec, port: IntOrString) -> int:
    """Resolve a port given by name; raise LookupError if the container has none of that name."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for known in container.ports:
        if known.name == port:
            return known.container_port
    raise LookupError(f"container {container.name} has no port named {port}")
