"""What becomes of every key of the Compose Specification: honoured, mapped, or refused by name.

This table is the conformance list: a key that stands in it as refused, or not at all, stops
`sampan up` with its place in the file. `docs/design/compose.md` shows the same table; a test
compares them.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sampan.compose.document import Node, Problem


class Treatment(StrEnum):
    HONOURED = "honoured"
    MAPPED = "mapped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Rule:
    treatment: Treatment
    note: str = ""
    """Of a mapped key to what; of a refused one why, and what to do instead."""


def _honoured(keys: str, note: str = "") -> dict[str, Rule]:
    return dict.fromkeys(keys.split(), Rule(Treatment.HONOURED, note))


def _mapped(keys: str, note: str) -> dict[str, Rule]:
    return dict.fromkeys(keys.split(), Rule(Treatment.MAPPED, note))


def _refused(keys: str, why: str) -> dict[str, Rule]:
    return dict.fromkeys(keys.split(), Rule(Treatment.REFUSED, why))


_NO_FIELD: Final = "Kubernetes Pods have no such setting; leave it out"
_WINDOWS: Final = "it is for Windows containers"

SERVICE: Final[Mapping[str, Rule]] = {
    **_honoured("image"),
    **_honoured("command entrypoint", "`$(...)` stays as it is"),
    **_honoured("environment env_file env_file.path env_file.required"),
    **_refused("env_file.format", "env files are read in Compose's own format"),
    **_honoured("working_dir read_only privileged cap_add cap_drop tty stdin_open hostname"),
    **_honoured("attach", "`sampan up` attaches to nothing; see `sampan logs -f`"),
    **_mapped("user", "`runAsUser` and `runAsGroup`: numbers only, UID or UID:GID"),
    **_mapped("group_add", "`supplementalGroups`: numbers only"),
    **_mapped("annotations", "annotations of the Pods"),
    **_mapped("labels label_file", "Pod labels where Kubernetes allows the text, else annotations"),
    **_mapped(
        "ports ports.target ports.published ports.protocol ports.name ports.app_protocol",
        "Service `NAME` for other services; Service `NAME-published`, answered on every node",
    ),
    **_mapped("ports.mode", "`ingress`; `host` is refused"),
    **_mapped("ports.host_ip", "`0.0.0.0`; a port is published on every node's address"),
    **_mapped("expose", "ports of the Service `NAME`"),
    **_mapped(
        "volumes volumes.type volumes.source volumes.target volumes.read_only",
        "absolute paths: the node's (`hostPath`); relative files and directories up to 1 MiB: "
        "copied at `up`, read-only; no source: `emptyDir`; tmpfs: memory; named ones: "
        "a PersistentVolumeClaim, which begins empty and stays on the node where it is first used",
    ),
    **_mapped("volumes.bind volumes.bind.create_host_path", "`true`: a missing path is made"),
    **_refused(
        "volumes.bind.propagation volumes.bind.recursive volumes.bind.selinux",
        "mounts are private to the container; leave it out",
    ),
    **_mapped("volumes.tmpfs volumes.tmpfs.size", "`sizeLimit` of an `emptyDir` in memory"),
    **_mapped("volumes.volume volumes.volume.subpath", "`subPath`"),
    **_mapped("volumes.volume.nocopy", "`true`: nothing is copied from the image"),
    **_refused("volumes.tmpfs.mode", "a tmpfs has mode 0777"),
    **_refused("volumes.consistency", "it is for Docker Desktop on macOS; leave it out"),
    **_refused(
        "volumes.volume.labels",
        "labels belong to the volume at the top level of the file",
    ),
    **_refused("volumes.image volumes.image.subpath", "image mounts are not supported yet"),
    **_mapped("tmpfs", "`emptyDir` in memory; the option `size` is honoured"),
    **_mapped("shm_size", "`emptyDir` in memory of that size at /dev/shm"),
    **_mapped(
        "configs configs.source configs.target configs.mode",
        "a ConfigMap named after its content, so that a change rolls the service",
    ),
    **_mapped(
        "secrets secrets.source secrets.target secrets.mode",
        "a Secret named after its content, so that a change rolls the service",
    ),
    **_mapped("configs.uid configs.gid secrets.uid secrets.gid", "`0`; files belong to root"),
    **_mapped(
        "depends_on depends_on.*.condition depends_on.*.required",
        "annotation `sampan.io/after`: containers start when `service_started` or "
        "`service_healthy` holds; `service_completed_successfully` is refused",
    ),
    **_mapped("depends_on.*.restart", "`false`; dependents are not restarted"),
    **_mapped(
        "healthcheck healthcheck.test healthcheck.interval healthcheck.timeout "
        "healthcheck.retries healthcheck.start_period healthcheck.start_interval "
        "healthcheck.disable",
        "startup probe (every second, or every `start_interval`), then readiness and liveness "
        "probes: an unhealthy replica gets no traffic and is restarted; whole seconds",
    ),
    **_mapped("restart", "`always` or `unless-stopped`; also what happens without it"),
    **_honoured("scale deploy deploy.replicas"),
    **_honoured("deploy.mode", "`replicated`; `global` is refused"),
    **_mapped("deploy.endpoint_mode", "`vip`: ClusterIP; `dnsrr`: headless Service"),
    **_mapped("deploy.labels", "labels of the Deployment, or annotations where not allowed"),
    **_mapped(
        "deploy.update_config deploy.update_config.parallelism deploy.update_config.order",
        "`maxSurge` (start-first) or `maxUnavailable` (stop-first); without it 25 % surge, and "
        "never a replica less than asked for; a service that writes to a path of its node: the "
        "old replica ends first",
    ),
    **_mapped(
        "deploy.update_config.failure_action",
        "`rollback`, also without it: a release that fails is taken back; or `pause`",
    ),
    **_mapped("deploy.update_config.delay", "`0s`"),
    **_refused(
        "deploy.update_config.monitor deploy.update_config.max_failure_ratio",
        "an update stops at the first replica that does not get ready; leave it out",
    ),
    **_refused(
        "deploy.rollback_config deploy.rollback_config.parallelism deploy.rollback_config.delay "
        "deploy.rollback_config.failure_action deploy.rollback_config.monitor "
        "deploy.rollback_config.max_failure_ratio deploy.rollback_config.order",
        "a rollback (`kubectl rollout undo`) follows update_config; leave it out",
    ),
    **_mapped(
        "deploy.resources deploy.resources.limits deploy.resources.limits.cpus "
        "deploy.resources.limits.memory cpus mem_limit",
        "resource limits, which the kernel enforces",
    ),
    **_mapped(
        "deploy.resources.reservations deploy.resources.reservations.cpus "
        "deploy.resources.reservations.memory mem_reservation",
        "resource requests, which the scheduler keeps",
    ),
    **_refused("deploy.resources.limits.pids pids_limit", _NO_FIELD),
    **_refused(
        "deploy.resources.reservations.generic_resources deploy.resources.reservations.devices "
        "gpus devices device_cgroup_rules",
        "devices are not supported yet",
    ),
    **_mapped("deploy.restart_policy deploy.restart_policy.condition", "`any`"),
    **_refused(
        "deploy.restart_policy.delay deploy.restart_policy.max_attempts "
        "deploy.restart_policy.window",
        "restarts back off by themselves and never end; leave it out",
    ),
    **_mapped(
        "deploy.placement deploy.placement.constraints",
        "node selector (`==`) or node affinity (`!=`) on node.hostname, node.labels.X, "
        "node.platform.os and node.platform.arch",
    ),
    **_mapped(
        "deploy.placement.preferences deploy.placement.preferences.spread",
        "topology spread over node.labels.X",
    ),
    **_refused(
        "deploy.placement.max_replicas_per_node",
        "replicas are spread over nodes, without a fixed number; leave it out",
    ),
    **_mapped("networks networks.*.aliases", "one network a stack; aliases are Services"),
    **_refused(
        "networks.*.ipv4_address networks.*.ipv6_address networks.*.link_local_ips "
        "networks.*.mac_address networks.*.interface_name networks.*.driver_opts "
        "networks.*.priority networks.*.gw_priority mac_address",
        "addresses and interfaces of replicas are the cluster's to choose; use the service's name",
    ),
    **_mapped("network_mode", "`bridge`, or `host` for the node's own network"),
    **_mapped("container_name", "a further name of the service; one replica only"),
    **_mapped("links", "starts after that service; an alias is a further name of it"),
    **_refused("external_links", "use the other service's DNS name: NAME.NAMESPACE"),
    **_mapped("extra_hosts", "`hostAliases`; `host-gateway` is refused"),
    **_mapped("dns dns_search dns_opt", "`dnsConfig`: after the cluster's own DNS"),
    **_refused("domainname", _NO_FIELD),
    **_mapped("pid ipc", "`host`; the node's own namespace"),
    **_refused("uts userns_mode cgroup cgroup_parent", _NO_FIELD),
    **_mapped("security_opt", "`no-new-privileges`; others are refused"),
    **_mapped("sysctls", "`sysctls` of the Pod"),
    **_mapped("platform", "node selector by operating system and architecture"),
    **_mapped("pull_policy", "`always`, `never`, `missing` or `if_not_present`"),
    **_honoured("stop_grace_period", "whole seconds; 10 s without it, as Compose has it"),
    **_mapped("stop_signal", "`SIGTERM`"),
    **_mapped("init", "`false`"),
    **_mapped(
        "post_start post_start.command pre_stop pre_stop.command",
        "lifecycle hooks: one command each",
    ),
    **_refused(
        "post_start.user post_start.privileged post_start.working_dir post_start.environment "
        "pre_stop.user pre_stop.privileged pre_stop.working_dir pre_stop.environment",
        "a hook runs as its container does",
    ),
    **_honoured("profiles extends extends.service extends.file"),
    **_refused("build", "images are not built here: build it, `sampan image load` it, name it"),
    **_refused("develop", "it is for `docker compose watch`; leave it out"),
    **_refused("logging", "logs are kept and rotated by the node; leave it out"),
    **_refused("ulimits", _NO_FIELD),
    **_refused(
        "cpu_shares cpu_quota cpu_period cpu_rt_period cpu_rt_runtime cpuset",
        "use `cpus`, or deploy.resources",
    ),
    **_refused("cpu_count cpu_percent isolation credential_spec", _WINDOWS),
    **_refused(
        "mem_swappiness memswap_limit oom_kill_disable oom_score_adj blkio_config storage_opt",
        _NO_FIELD,
    ),
    **_refused("runtime", "every container runs in the node's runtime; leave it out"),
    **_refused("volumes_from", "replicas share no file system; mount what they need in each"),
    **_refused("provider models", "the cluster runs containers only"),
    **_refused("use_api_socket", "there is no Docker socket on the nodes"),
    **_refused("pull_refresh_after", "use pull_policy `always`, or a new tag"),
}

TOP: Final[Mapping[str, Rule]] = {
    **_honoured("name", "the stack's namespace"),
    **_honoured("version", "it has no meaning any more, in Compose itself"),
    **_honoured("services include include.path include.project_directory"),
    **_refused("include.env_file", "put the variables in the project's .env"),
    **_honoured("configs configs.*.content configs.*.environment configs.*.file"),
    **_honoured("secrets secrets.*.environment secrets.*.file"),
    **_refused(
        "configs.*.external secrets.*.external configs.*.name secrets.*.name",
        "its contents must come from this file: use `file` or `environment`",
    ),
    **_refused(
        "configs.*.labels secrets.*.labels configs.*.template_driver secrets.*.template_driver "
        "secrets.*.driver secrets.*.driver_opts",
        "leave it out",
    ),
    **_mapped(
        "networks networks.*.name networks.*.attachable",
        "one network a stack: refused where it would join services that the file keeps apart",
    ),
    **_mapped("networks.*.driver", "`bridge` or `overlay`"),
    **_refused("networks.*.external", "services of other stacks are reached as NAME.NAMESPACE"),
    **_refused("networks.*.internal", "a stack's network reaches the outside"),
    **_refused(
        "networks.*.driver_opts networks.*.ipam networks.*.enable_ipv4 networks.*.enable_ipv6 "
        "networks.*.labels",
        "the network is the cluster's; leave it out",
    ),
    **_mapped(
        "volumes volumes.*.name volumes.*.labels",
        "a PersistentVolumeClaim; `sampan down` leaves it, `sampan down --volumes` deletes it",
    ),
    **_mapped("volumes.*.external", "the claim must exist in the stack's namespace"),
    **_mapped("volumes.*.driver", "a StorageClass; `local` is the default one"),
    **_mapped("volumes.*.driver_opts", "`size`; others are refused"),
    **_refused("models", "the cluster runs containers only"),
}


def check(document: Node) -> list[Problem]:
    """Name every key that is refused, or that the specification does not have."""
    problems = list(_check(document, TOP, ""))
    services = document.mapping().get("services")
    for service in services.mapping().values() if services else ():
        problems += _check(service, SERVICE, "")
    return problems


def _check(node: Node, table: Mapping[str, Rule], prefix: str) -> Iterator[Problem]:
    """Walk as deep as *table* names keys; below that the user's own words begin."""
    if isinstance(node.value, list):
        for item in node.value:
            yield from _check(item, table, prefix)
    elif isinstance(node.value, dict):
        if any(name.startswith(f"{prefix}*.") for name in table):
            for value in node.value.values():
                yield from _check(value, table, f"{prefix}*.")
        elif any(name.startswith(prefix) for name in table):
            for key, value in node.value.items():
                yield from _check_entry(key, value, table, prefix)


def _check_entry(
    key: str, value: Node, table: Mapping[str, Rule], prefix: str
) -> Iterator[Problem]:
    if key.startswith("x-"):
        return
    rule = table.get(prefix + key)
    if rule is None:
        yield Problem(value.at, _unknown(key, value.path, table, prefix))
    elif rule.treatment is Treatment.REFUSED:
        yield Problem(value.at, f"{value.path}: `{key}` is refused: {rule.note}")
    else:
        yield from _check(value, table, f"{prefix}{key}.")


def _unknown(key: str, path: str, table: Mapping[str, Rule], prefix: str) -> str:
    known = [name.removeprefix(prefix) for name in table if name.startswith(prefix)]
    close = difflib.get_close_matches(key, [name for name in known if "." not in name], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{path}: {key!r} is no key of the Compose Specification{hint}"
