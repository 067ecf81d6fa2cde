"""From a Pod's spec to what the runtime is asked for.

Where Kubernetes leaves a default to the node, ours is Docker's: a container whose seccomp profile
is not named gets the runtime's own, not none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sampan.agent.env import ConfigError, expand
from sampan.agent.resources import asked, limits
from sampan.agent.runtime import (
    CONTAINER_NAME,
    IMAGE_ASKED,
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    RESOURCES_ASKED,
    ContainerConfig,
    DnsConfig,
    Image,
    Mount,
    Namespaces,
    PortMapping,
    SandboxConfig,
    Seccomp,
    Security,
)
from sampan.agent.spec import ContainerSpec, NodePod
from sampan.agent.status import qos_class
from sampan.api.objects import Object

MASKED: Final = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY: Final = (
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
)  # fmt: skip


class Cluster(Struct, frozen=True):
    """Where Pods look names up."""

    dns_ip: str
    domain: str


# Sandboxes


def sandbox_config(pod: NodePod, attempt: int, log_dir: Path, cluster: Cluster) -> SandboxConfig:
    meta = pod.metadata
    return SandboxConfig(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        attempt=attempt,
        hostname="" if pod.spec.host_network else pod.hostname,
        log_directory=str(log_directory(pod, log_dir)),
        dns=dns_config(pod, cluster),
        port_mappings=() if pod.spec.host_network else _port_mappings(pod),
        labels={**meta.labels, **_pod_labels(pod)},
        annotations=meta.annotations,
        sysctls={
            entry["name"]: str(entry["value"])
            for entry in pod.spec.security_context.get("sysctls") or ()
        },
        security=_sandbox_security(pod),
    )


def log_directory(pod: NodePod, log_dir: Path) -> Path:
    meta = pod.metadata
    return log_dir / f"{meta.namespace}_{meta.name}_{meta.uid}"


def _pod_labels(pod: NodePod) -> dict[str, str]:
    meta = pod.metadata
    return {POD_NAME: meta.name, POD_NAMESPACE: meta.namespace, POD_UID: meta.uid}


def _port_mappings(pod: NodePod) -> tuple[PortMapping, ...]:
    return tuple(
        PortMapping(port.container_port, port.host_port, port.protocol, port.host_ip)
        for container in pod.every_container
        for port in container.ports
        if port.host_port
    )


def dns_config(pod: NodePod, cluster: Cluster) -> DnsConfig | None:
    """What the Pod's resolv.conf says; None if that is what the node's says."""
    policy, extra = pod.spec.dns_policy, pod.spec.dns_config
    in_cluster = policy == "ClusterFirstWithHostNet" or (
        policy == "ClusterFirst" and not pod.spec.host_network
    )
    if not in_cluster and policy != "None":
        return _node_dns(extra) if extra else None
    base = _cluster_dns(pod.metadata.namespace, cluster) if in_cluster else DnsConfig()
    return _with_extra(base, extra)


def _cluster_dns(namespace: str, cluster: Cluster) -> DnsConfig:
    domain = cluster.domain
    searches = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain)
    return DnsConfig((cluster.dns_ip,), searches, ("ndots:5",))


def _node_dns(extra: Object) -> DnsConfig:
    lines = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    by_key: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for key, *values in filter(None, lines):
        by_key.get(key, []).extend(values)
    servers, searches, options = (tuple(values) for values in by_key.values())
    return _with_extra(DnsConfig(servers, searches, options), extra)


def _with_extra(base: DnsConfig, extra: Object) -> DnsConfig:
    options = {option.partition(":")[0]: option for option in base.options}
    for option in extra.get("options") or ():
        value = option.get("value")
        options[option["name"]] = f"{option['name']}:{value}" if value else option["name"]
    return DnsConfig(
        _unique([*base.servers, *(extra.get("nameservers") or ())]),
        _unique([*base.searches, *(extra.get("searches") or ())]),
        tuple(options.values()),
    )


def _unique(items: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def hosts_file(pod: NodePod, ips: Sequence[str], cluster: Cluster, node_hosts: str) -> str:
    """The Pod's /etc/hosts; *node_hosts* is the node's, for Pods on the node's own network."""
    if pod.spec.host_network:
        lines = [node_hosts.rstrip("\n")]
    else:
        lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
        names = [pod.hostname]
        if pod.spec.subdomain:
            space = pod.metadata.namespace
            names.insert(0, f"{pod.hostname}.{pod.spec.subdomain}.{space}.svc.{cluster.domain}")
        lines += [f"{ip}\t{' '.join(names)}" for ip in ips]
    lines += [f"{alias.ip}\t{' '.join(alias.hostnames)}" for alias in pod.spec.host_aliases]
    return "\n".join(lines) + "\n"


# Security


def _namespaces(pod: NodePod) -> Namespaces:
    shared = "POD" if pod.spec.share_process_namespace else "CONTAINER"
    return Namespaces(
        network="NODE" if pod.spec.host_network else "POD",
        pid="NODE" if pod.spec.host_pid else shared,  # type: ignore[arg-type]
        ipc="NODE" if pod.spec.host_ipc else "POD",
    )


def _sandbox_security(pod: NodePod) -> Security:
    """The sandbox only holds namespaces: it needs no rights, and runs as nobody in particular."""
    context = pod.spec.security_context
    privileged = any(c.security_context.get("privileged") for c in pod.every_container)
    return Security(
        namespaces=_namespaces(pod),
        privileged=privileged,
        run_as_user=context.get("runAsUser"),
        run_as_group=context.get("runAsGroup") if "runAsUser" in context else None,
        supplemental_groups=_groups(pod),
        seccomp=Seccomp("Unconfined"),
    )


def _groups(pod: NodePod) -> tuple[int, ...]:
    context = pod.spec.security_context
    groups = list(context.get("supplementalGroups") or ())
    if (group := context.get("fsGroup")) is not None:
        groups.append(group)
    return tuple(groups)


def container_security(pod: NodePod, container: ContainerSpec, image: Image) -> Security:
    """Return what the container may do; raise ConfigError if it may not run as it would."""
    context = {**_shared_context(pod), **container.security_context}
    user = context.get("runAsUser")
    if context.get("runAsNonRoot"):
        _require_other_than_root(pod, container, user, image)
    capabilities = context.get("capabilities") or {}
    privileged = bool(context.get("privileged"))
    bare = privileged or context.get("procMount") == "Unmasked"
    return Security(
        namespaces=_namespaces(pod),
        privileged=privileged,
        run_as_user=_user(user, context.get("runAsGroup"), image),
        run_as_group=context.get("runAsGroup"),
        supplemental_groups=_groups(pod),
        readonly_rootfs=bool(context.get("readOnlyRootFilesystem")),
        seccomp=_seccomp(context.get("seccompProfile"), privileged=privileged),
        no_new_privs=context.get("allowPrivilegeEscalation") is False,
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        masked_paths=() if bare else MASKED,
        readonly_paths=() if bare else READ_ONLY,
    )


def _user(user: int | None, group: int | None, image: Image) -> int | None:
    """CRI takes a group only together with a user, so then the image's own user is named."""
    if user is None and group is not None and not image.username:
        return image.uid or 0
    return user


def _shared_context(pod: NodePod) -> Object:
    names = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile")
    return {n: pod.spec.security_context[n] for n in names if n in pod.spec.security_context}


def _require_other_than_root(
    pod: NodePod, container: ContainerSpec, user: int | None, image: Image
) -> None:
    where = f'(pod: "{pod.described()}", container: {container.name})'
    if user == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    if user is not None:
        return
    if image.username:
        text = f"container has runAsNonRoot and image has non-numeric user ({image.username}), "
        raise ConfigError(f"{text}cannot verify user is non-root {where}")
    if not image.uid:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def _seccomp(profile: Object | None, *, privileged: bool) -> Seccomp:
    if privileged:
        return Seccomp("Unconfined")
    if not profile:
        return Seccomp()
    return Seccomp(profile["type"], profile.get("localhostProfile") or "")


# Containers


class Prepared(Struct, frozen=True, kw_only=True):
    """What was looked up or made for one run of a container."""

    image: Image
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    node_memory: int
    target: str = ""
    """The id of the container whose processes it sees, if it is there to look at one."""


def container_config(
    pod: NodePod, container: ContainerSpec, attempt: int, ready: Prepared
) -> ContainerConfig:
    return ContainerConfig(
        name=container.name,
        attempt=attempt,
        image=ready.image.id,
        command=tuple(expand(text, ready.env) for text in container.command),
        args=tuple(expand(text, ready.env) for text in container.args),
        working_dir=container.working_dir,
        env=ready.env,
        mounts=ready.mounts,
        labels={**_pod_labels(pod), CONTAINER_NAME: container.name},
        annotations={IMAGE_ASKED: container.image, RESOURCES_ASKED: asked(container)},
        log_path=f"{container.name}/{attempt}.log",
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        limits=limits(container, qos_class(pod), ready.node_memory),
        security=_aimed(container_security(pod, container, ready.image), ready.target),
    )


def _aimed(security: Security, target: str) -> Security:
    if not target or security.namespaces.pid != "CONTAINER":
        return security
    return replace(security, namespaces=replace(security.namespaces, pid="TARGET", target=target))
