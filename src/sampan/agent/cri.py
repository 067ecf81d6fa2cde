"""The runtime port over CRI v1, as containerd 1.6 and later speak it.

What happens to containers is heard from containerd's own event service on the same socket: CRI's
`GetContainerEndeds` came only with 1.7.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
from cri_api.v1 import api_pb2
from cri_api.v1.api_pb2_grpc import ImageServiceStub, RuntimeServiceStub
from msgspec import to_builtins

from sampan.agent import containerd_events
from sampan.agent.runtime import (
    CONTAINER_NAME,
    IMAGE_ASKED,
    POD_UID,
    RESOURCES_ASKED,
    Auth,
    Container,
    ContainerConfig,
    ContainerEnded,
    ExecResult,
    Image,
    ImageEvent,
    Limits,
    Missing,
    Namespaces,
    RuntimeFailure,
    Sandbox,
    SandboxConfig,
    Seccomp,
    Security,
    State,
    TimedOut,
    Unreachable,
)

cri: Any = api_pb2
"""Untyped: messages are made from plain dictionaries, which the stubs do not know."""
CALL_TIMEOUT: Final = 120.0
"""Seconds; a runtime that needs longer for anything but pulling and stopping is broken."""
PULL_TIMEOUT: Final = 3600.0
_STATES: Final = {
    cri.CONTAINER_CREATED: State.CREATED,
    cri.CONTAINER_RUNNING: State.RUNNING,
    cri.CONTAINER_EXITED: State.EXITED,
}
_FAILURES: Final[Mapping[grpc.StatusCode, type[RuntimeFailure]]] = {
    grpc.StatusCode.NOT_FOUND: Missing,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}


class CriRuntime:
    """One node's runtime; made by `open_runtime`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._runtime = RuntimeServiceStub(channel)
        self._images = ImageServiceStub(channel)

    async def sandboxes(self) -> Sequence[Sandbox]:
        answer = await _ask(self._runtime.ListPodSandbox, cri.ListPodSandboxRequest())
        return [_sandbox(item) for item in answer.items]

    async def sandbox(self, sandbox: str) -> Sandbox:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        status = (await _ask(self._runtime.PodSandboxStatus, request)).status
        network = status.network
        ips = [network.ip, *(more.ip for more in network.additional_ips)]
        return _sandbox(status, tuple(ip for ip in ips if ip))

    async def containers(self) -> Sequence[Container]:
        answer = await _ask(self._runtime.ListContainers, cri.ListContainersRequest())
        return [_listed(item) for item in answer.containers]

    async def container(self, container: str) -> Container:
        request = cri.ContainerStatusRequest(container_id=container, verbose=False)
        status = (await _ask(self._runtime.ContainerStatus, request)).status
        return _container(status)

    async def run_sandbox(self, config: SandboxConfig) -> str:
        request = cri.RunPodSandboxRequest(config=sandbox_message(config))
        return str((await _ask(self._runtime.RunPodSandbox, request)).pod_sandbox_id)

    async def stop_sandbox(self, sandbox: str) -> None:
        request = cri.StopPodSandboxRequest(pod_sandbox_id=sandbox)
        await _unless_missing(_ask(self._runtime.StopPodSandbox, request))

    async def remove_sandbox(self, sandbox: str) -> None:
        request = cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox)
        await _unless_missing(_ask(self._runtime.RemovePodSandbox, request))

    async def create_container(
        self, sandbox: str, config: ContainerConfig, sandbox_config: SandboxConfig
    ) -> str:
        request = cri.CreateContainerRequest(
            pod_sandbox_id=sandbox,
            config=container_message(config),
            sandbox_config=sandbox_message(sandbox_config),
        )
        return str((await _ask(self._runtime.CreateContainer, request)).container_id)

    async def start_container(self, container: str) -> None:
        await _ask(self._runtime.StartContainer, cri.StartContainerRequest(container_id=container))

    async def stop_container(self, container: str, grace: int) -> None:
        request = cri.StopContainerRequest(container_id=container, timeout=grace)
        stopping = _ask(self._runtime.StopContainer, request, timeout=grace + CALL_TIMEOUT)
        await _unless_missing(stopping)

    async def remove_container(self, container: str) -> None:
        request = cri.RemoveContainerRequest(container_id=container)
        await _unless_missing(_ask(self._runtime.RemoveContainer, request))

    async def update_resources(self, container: str, limits: Limits) -> None:
        request = cri.UpdateContainerResourcesRequest(
            container_id=container, linux=to_builtins(limits)
        )
        await _ask(self._runtime.UpdateContainerResources, request)

    async def reopen_log(self, container: str) -> None:
        request = cri.ReopenContainerLogRequest(container_id=container)
        await _ask(self._runtime.ReopenContainerLog, request)

    async def exec(self, container: str, command: Sequence[str], timeout: float) -> ExecResult:  # noqa: ASYNC109 - the runtime keeps the time
        request = cri.ExecSyncRequest(
            container_id=container, cmd=command, timeout=max(round(timeout), 1) if timeout else 0
        )
        wait = timeout + CALL_TIMEOUT if timeout else PULL_TIMEOUT
        answer = await _ask(self._runtime.ExecSync, request, timeout=wait)
        return ExecResult(answer.exit_code, answer.stdout + answer.stderr)

    async def image(self, name: str) -> Image | None:
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name))
        answer = await _ask(self._images.ImageStatus, request)
        if not answer.HasField("image"):
            return None
        found = answer.image
        uid = found.uid.value if found.HasField("uid") else None
        return Image(found.id, uid, found.username)

    async def pull(self, name: str, auth: Auth | None, sandbox: SandboxConfig | None) -> None:
        request = cri.PullImageRequest(
            image=cri.ImageSpec(image=name),
            auth=cri.AuthConfig(**to_builtins(auth)) if auth else None,
            sandbox_config=sandbox_message(sandbox) if sandbox else None,
        )
        await _ask(self._images.PullImage, request, timeout=PULL_TIMEOUT)

    async def events(self) -> AsyncGenerator[ContainerEnded | ImageEvent, None]:
        try:
            async for topic, subject in containerd_events.subscribe(self._channel):
                if topic.startswith("/images/"):
                    yield ImageEvent(subject)
                else:
                    yield ContainerEnded(subject)
        except grpc.RpcError as error:
            raise _failure(error) from error


@asynccontextmanager
async def open_runtime(socket: Path) -> AsyncIterator[CriRuntime]:
    async with grpc.aio.insecure_channel(f"unix://{socket}") as channel:
        yield CriRuntime(channel)


async def _ask(method: Any, request: Any, *, timeout: float = CALL_TIMEOUT) -> Any:  # noqa: ASYNC109 - gRPC keeps the time
    try:
        return await method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise _failure(error) from error


def _failure(error: Any) -> RuntimeFailure:
    kind = _FAILURES.get(error.code(), RuntimeFailure)
    return kind(error.details() or error.code().name)


async def _unless_missing(call: Awaitable[object]) -> None:
    try:
        await call
    except Missing:
        return


# Records to messages


def sandbox_message(config: SandboxConfig) -> Any:
    message = cri.PodSandboxConfig(
        metadata={
            "name": config.name,
            "namespace": config.namespace,
            "uid": config.uid,
            "attempt": config.attempt,
        },
        hostname=config.hostname,
        log_directory=config.log_directory,
        port_mappings=[
            {**to_builtins(mapping), "protocol": cri.Protocol.Value(mapping.protocol)}
            for mapping in config.port_mappings
        ],
        labels=config.labels,
        annotations=config.annotations,
        linux={
            "security_context": _sandbox_security(config.security),
            "sysctls": dict(config.sysctls),
        },
    )
    if config.dns:
        message.dns_config.CopyFrom(cri.DNSConfig(**to_builtins(config.dns)))
    return message


def container_message(config: ContainerConfig) -> Any:
    return cri.ContainerConfig(
        metadata={"name": config.name, "attempt": config.attempt},
        image={"image": config.image},
        command=config.command,
        args=config.args,
        working_dir=config.working_dir,
        envs=[{"key": key, "value": value} for key, value in config.env.items()],
        mounts=[
            {
                "container_path": mount.container_path,
                "host_path": mount.host_path,
                "readonly": mount.readonly,
                "propagation": cri.MountPropagation.Value(mount.propagation),
            }
            for mount in config.mounts
        ],
        labels=config.labels,
        annotations=config.annotations,
        log_path=config.log_path,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        linux={
            "resources": to_builtins(config.limits),
            "security_context": _container_security(config.security),
        },
    )


def _sandbox_security(security: Security) -> dict[str, Any]:
    return {
        "namespace_options": _namespaces(security.namespaces),
        "privileged": security.privileged,
        "readonly_rootfs": security.readonly_rootfs,
        "supplemental_groups": security.supplemental_groups,
        "seccomp": _seccomp(security.seccomp),
        **_users(security),
    }


def _container_security(security: Security) -> dict[str, Any]:
    return {
        **_sandbox_security(security),
        "no_new_privs": security.no_new_privs,
        "masked_paths": security.masked_paths,
        "readonly_paths": security.readonly_paths,
        "capabilities": {
            "add_capabilities": security.add_capabilities,
            "drop_capabilities": security.drop_capabilities,
        },
    }


def _users(security: Security) -> dict[str, Any]:
    ids = {"run_as_user": security.run_as_user, "run_as_group": security.run_as_group}
    return {name: {"value": value} for name, value in ids.items() if value is not None}


def _namespaces(spaces: Namespaces) -> dict[str, int | str]:
    return {
        "network": cri.NamespaceMode.Value(spaces.network),
        "pid": cri.NamespaceMode.Value(spaces.pid),
        "ipc": cri.NamespaceMode.Value(spaces.ipc),
        "target_id": spaces.target,
    }


def _seccomp(seccomp: Seccomp) -> dict[str, Any]:
    kinds = cri.SecurityProfile.ProfileType
    return {
        "profile_type": kinds.Value(seccomp.profile_type),
        "localhost_ref": seccomp.localhost_ref,
    }


# Messages to records


def _sandbox(item: Any, ips: tuple[str, ...] = ()) -> Sandbox:
    meta = item.metadata
    return Sandbox(
        id=item.id,
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        attempt=meta.attempt,
        ready=item.state == cri.SANDBOX_READY,
        created_at=_required(item.created_at),
        ips=ips,
    )


def _listed(item: Any) -> Container:
    return Container(
        id=item.id,
        sandbox=item.pod_sandbox_id,
        uid=item.labels.get(POD_UID, ""),
        name=item.labels.get(CONTAINER_NAME, item.metadata.name),
        attempt=item.metadata.attempt,
        state=_STATES.get(item.state, State.UNKNOWN),
        created_at=_required(item.created_at),
        image_asked=item.annotations.get(IMAGE_ASKED, ""),
        resources_asked=item.annotations.get(RESOURCES_ASKED, ""),
    )


def _container(status: Any) -> Container:
    """A container in full, but for its sandbox, which CRI tells only in lists."""
    return Container(
        id=status.id,
        sandbox="",
        uid=status.labels.get(POD_UID, ""),
        name=status.labels.get(CONTAINER_NAME, status.metadata.name),
        attempt=status.metadata.attempt,
        state=_STATES.get(status.state, State.UNKNOWN),
        created_at=_required(status.created_at),
        started_at=_time(status.started_at),
        finished_at=_time(status.finished_at),
        exit_code=status.exit_code,
        reason=status.reason,
        message=status.message,
        image=status.image.image,
        image_ref=status.image_ref,
        image_asked=status.annotations.get(IMAGE_ASKED, ""),
        resources_asked=status.annotations.get(RESOURCES_ASKED, ""),
        log_path=status.log_path,
    )


def _time(nanoseconds: int) -> datetime | None:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC) if nanoseconds > 0 else None


def _required(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
