"""The port to a container runtime: what the agent asks of it, and the records that it answers.

The configurations have the field names of CRI v1, because every runtime that we may meet speaks
it; they are plain frozen records, so that a fake runtime needs no gRPC.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, Protocol

from msgspec import Struct

POD_NAME: Final = "io.kubernetes.pod.name"
POD_NAMESPACE: Final = "io.kubernetes.pod.namespace"
POD_UID: Final = "io.kubernetes.pod.uid"
CONTAINER_NAME: Final = "io.kubernetes.container.name"
IMAGE_ASKED: Final = "sampan.io/image"
"""Annotation of a container: the image as its Pod named it when it was made."""
RESOURCES_ASKED: Final = "sampan.io/resources"
"""Annotation of a container: the CPU and memory that its Pod asked for when it was made."""


class RuntimeFailure(Exception):
    """The runtime refused or failed; the message is its own."""


class Missing(RuntimeFailure):
    """The runtime does not know that sandbox, container or image."""


class Unreachable(RuntimeFailure):
    """The runtime does not answer at all; what was asked may or may not have happened."""


class TimedOut(RuntimeFailure):
    pass


class State(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class Sandbox(Struct, frozen=True, kw_only=True):
    """A Pod's shared part: its network address, and what its containers run in."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    ready: bool
    created_at: datetime
    ips: tuple[str, ...] = ()


class Container(Struct, frozen=True, kw_only=True):
    id: str
    sandbox: str
    uid: str
    """The Pod's."""
    name: str
    attempt: int
    state: State
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_ref: str = ""
    image_asked: str = ""
    resources_asked: str = ""
    log_path: str = ""

    @property
    def running(self) -> bool:
        return self.state is State.RUNNING

    @property
    def ended(self) -> bool:
        return self.state is State.EXITED


class Image(Struct, frozen=True):
    id: str
    uid: int | None = None
    """Whom the image runs as: a number, or else *username*, or else root."""
    username: str = ""


class Auth(Struct, frozen=True):
    """Credentials for one registry; the field names are CRI's."""

    username: str = ""
    password: str = ""
    auth: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""


class DnsConfig(Struct, frozen=True):
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class PortMapping(Struct, frozen=True):
    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


class Namespaces(Struct, frozen=True):
    network: Literal["POD", "NODE"] = "POD"
    pid: Literal["POD", "CONTAINER", "NODE", "TARGET"] = "CONTAINER"
    ipc: Literal["POD", "NODE"] = "POD"
    target: str = ""
    """With pid TARGET: the id of the container whose processes are seen."""


class Seccomp(Struct, frozen=True):
    profile_type: Literal["RuntimeDefault", "Unconfined", "Localhost"] = "RuntimeDefault"
    localhost_ref: str = ""


class Security(Struct, frozen=True, kw_only=True):
    namespaces: Namespaces = Namespaces()
    privileged: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    readonly_rootfs: bool = False
    seccomp: Seccomp = Seccomp()
    no_new_privs: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()


class SandboxConfig(Struct, frozen=True, kw_only=True):
    name: str
    namespace: str
    uid: str
    attempt: int = 0
    hostname: str = ""
    log_directory: str = ""
    dns: DnsConfig | None = None
    """None leaves the node's own resolv.conf."""
    port_mappings: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    sysctls: Mapping[str, str] = {}
    security: Security = Security()


class Mount(Struct, frozen=True, kw_only=True):
    container_path: str
    host_path: str
    readonly: bool = False
    propagation: str = "PROPAGATION_PRIVATE"


class Limits(Struct, frozen=True, kw_only=True):
    """What the kernel enforces; zero is no limit."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0
    oom_score_adj: int = 0


class ContainerConfig(Struct, frozen=True, kw_only=True):
    name: str
    attempt: int = 0
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: Mapping[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    limits: Limits = Limits()
    security: Security = Security()


class ExecResult(Struct, frozen=True):
    exit_code: int
    output: bytes


class ContainerEnded(Struct, frozen=True):
    """A container's first process has ended; its status may still need a moment to say so."""

    container: str


class ImageEvent(Struct, frozen=True):
    """An image came, or got a name."""

    name: str


class Runtime(Protocol):
    """Every method raises RuntimeFailure; stopping and removing what is not there is no error."""

    async def sandboxes(self) -> Sequence[Sandbox]:
        """List all; without their addresses."""

    async def sandbox(self, sandbox: str) -> Sandbox: ...

    async def containers(self) -> Sequence[Container]:
        """List all; without times, exit codes and reasons."""

    async def container(self, container: str) -> Container:
        """Return all about one but its sandbox, which CRI tells only in lists."""

    async def run_sandbox(self, config: SandboxConfig) -> str: ...

    async def stop_sandbox(self, sandbox: str) -> None: ...

    async def remove_sandbox(self, sandbox: str) -> None: ...

    async def create_container(
        self, sandbox: str, config: ContainerConfig, sandbox_config: SandboxConfig
    ) -> str: ...

    async def start_container(self, container: str) -> None: ...

    async def stop_container(self, container: str, grace: int) -> None:
        """Send its stop signal, wait *grace* seconds, kill it; return when it has ended."""

    async def remove_container(self, container: str) -> None: ...

    async def update_resources(self, container: str, limits: Limits) -> None:
        """Change what the kernel grants a running container."""

    async def reopen_log(self, container: str) -> None:
        """Go on in a new file, because the log of a running container was renamed."""

    async def exec(self, container: str, command: Sequence[str], timeout: float) -> ExecResult:  # noqa: ASYNC109 - the runtime keeps the time
        """Run *command* inside; raise TimedOut after *timeout* seconds (0 is none)."""

    async def image(self, name: str) -> Image | None: ...

    async def pull(self, name: str, auth: Auth | None, sandbox: SandboxConfig | None) -> None: ...

    def events(self) -> AsyncGenerator[ContainerEnded | ImageEvent, None]:
        """Follow what happens from now on; raises Unreachable when the connection is lost."""
