"""A service as a Deployment: its replicas, how they are replaced, and where they may run."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from sampan.compose import units
from sampan.compose.container import container_of
from sampan.compose.document import Node
from sampan.compose.mounts import Mounts
from sampan.compose.names import AFTER, ON_FAILURE, SERVICE, STACK, split_labels
from sampan.compose.ports import Port
from sampan.compose.project import Project, read_dotenv

Object = dict[str, Any]
GRACE: Final = 10
"""Seconds between SIGTERM and SIGKILL where the file says nothing (Compose's default)."""
_CONSTRAINT: Final = re.compile(r"(\S+?)\s*(==|!=)\s*(\S+)")
_NODE_LABELS: Final = {
    "node.hostname": "kubernetes.io/hostname",
    "node.platform.os": "kubernetes.io/os",
    "node.platform.arch": "kubernetes.io/arch",
}
_STATES: Final = {"service_started": "started", "service_healthy": "ready"}
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def deployment_of(
    name: str, service: Node, project: Project, mounts: Mounts, ports: list[Port]
) -> Object:
    selector = {STACK: project.name, SERVICE: name}
    labels, annotations = split_labels(service.get("deploy", "labels"))
    if _goes_back(service):
        annotations[ON_FAILURE] = "rollback"
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {
            "replicas": replicas_of(service),
            "selector": {"matchLabels": selector},
            "strategy": _strategy(service, mounts),
            "template": _template(name, service, project, mounts, ports),
        },
    }


def replicas_of(service: Node) -> int:
    node = service.get("deploy", "replicas") or service.get("scale")
    count = node.integer() if node else 1
    if node and count < 0:
        node.fail("cannot be negative")
    if node and count > 1 and (named := service.get("container_name")):
        named.fail(f"{count} replicas cannot share one name; leave it out")
    _check_mode(service)
    return count


def _check_mode(service: Node) -> None:
    if (mode := service.get("deploy", "mode")) and mode.text() != "replicated":
        mode.fail(f"{mode.raw!r} is refused: only `replicated` is supported yet")
    if (restart := service.get("restart")) and restart.text() not in {"always", "unless-stopped"}:
        restart.fail(
            f"{restart.raw!r} is refused: a service is kept running (always, unless-stopped); "
            "work that ends is a Job, which the file cannot describe yet"
        )
    condition = service.get("deploy", "restart_policy", "condition")
    if condition and condition.text() != "any":
        condition.fail(f"{condition.raw!r} is refused: a service is kept running (`any`)")
    if (signal := service.get("stop_signal")) and signal.text() not in {"SIGTERM", "15"}:
        signal.fail(f"{signal.raw!r} is refused: containers are stopped by SIGTERM")
    if (init := service.get("init")) and init.flag():
        init.fail("`true` is refused: no init process is put into containers; use one in the image")


def _strategy(service: Node, mounts: Mounts) -> Object:
    config = service.get("deploy", "update_config")
    if config is None:
        if not mounts.writes_to_node:
            return _rolling("25%", 0)
        # two releases at once on one directory would harm what is in it
        return _rolling(0, 1) if replicas_of(service) > 1 else {"type": "Recreate"}
    parallelism, order = config.get("parallelism"), config.get("order")
    count = parallelism.integer() if parallelism else 1
    amount: int | str = count or "100%"
    if (delay := config.get("delay")) and units.seconds(delay):
        delay.fail("a pause between replicas is refused: the next follows when one is ready")
    if order and order.choice("start-first", "stop-first") == "start-first":
        return _rolling(amount, 0)
    return _rolling(0, amount)


def _goes_back(service: Node) -> bool:
    """Whether a release that fails is taken back: always, unless the file says otherwise."""
    action = service.get("deploy", "update_config", "failure_action")
    if action and action.text() == "continue":
        action.fail(
            "'continue' is refused: an update that fails goes back (`rollback`), or stops (`pause`)"
        )
    return action is None or action.choice("rollback", "pause") == "rollback"


def _rolling(surge: int | str, unavailable: int | str) -> Object:
    limits = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"type": "RollingUpdate", "rollingUpdate": limits}


def _template(
    name: str, service: Node, project: Project, mounts: Mounts, ports: list[Port]
) -> Object:
    labels, annotations = _pod_labels(service, project)
    if after := _after(service, project):
        annotations[AFTER] = after
    container = container_of(name, service, project)
    if mounts.mounts:
        container["volumeMounts"] = mounts.mounts
    if ports:
        unique = dict.fromkeys((port.target, port.protocol) for port in ports)
        container["ports"] = [{"containerPort": n, "protocol": p} for n, p in unique]
    grace = service.get("stop_grace_period")
    spec: Object = {
        "containers": [container],
        "terminationGracePeriodSeconds": units.whole_seconds(grace) if grace else GRACE,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        **_network(service),
        **_placement(service),
    }
    if mounts.volumes:
        spec["volumes"] = mounts.volumes
    if context := _pod_security(service):
        spec["securityContext"] = context
    metadata: Object = {"labels": {**labels, STACK: project.name, SERVICE: name}}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": spec}


def _pod_labels(service: Node, project: Project) -> tuple[dict[str, str], dict[str, str]]:
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    files = service.get("label_file")
    for file in files.sequence() if files else ():
        entries = read_dotenv(file.at.base / file.text(), project.env, file.at)
        pairs = {key: file.child(key, value or "") for key, value in entries.items()}
        more, rest = split_labels(file.with_value(pairs))
        labels |= more
        annotations |= rest
    own, rest = split_labels(service.get("labels"))
    given = service.get("annotations")
    named = {k: v.text() for k, v in given.mapping().items()} if given else {}
    return labels | own, annotations | rest | named


def _after(service: Node, project: Project) -> str:
    """What the containers wait for: `db=ready,cache=started`."""
    waits: dict[str, str] = {}
    links = service.get("links")
    for link in links.sequence() if links else ():
        waits[_known(link, link.text().partition(":")[0], project)] = "started"
    depends = service.get("depends_on")
    for name, entry in (depends.mapping() if depends else {}).items():
        required = (node := entry.get("required")) is None or node.flag()
        if not required and name not in project.services:
            continue
        waits[_known(entry, name, project)] = _condition(name, entry, project)
    return ",".join(f"{name}={state}" for name, state in waits.items())


def _known(at: Node, name: str, project: Project) -> str:
    if name not in project.services:
        at.fail(f"there is no service {name!r} (or no active profile has it)")
    return name


def _condition(name: str, entry: Node, project: Project) -> str:
    if (restart := entry.get("restart")) and restart.flag():
        restart.fail("`true` is refused: a service's restart does not restart others")
    condition = entry.get("condition")
    wanted = condition.text() if condition else "service_started"
    if wanted == "service_completed_successfully":
        entry.fail("service_completed_successfully is refused: work that ends is not supported yet")
    if wanted not in _STATES:
        (condition or entry).fail("must be service_started or service_healthy")
    if wanted == "service_healthy" and not project.services[name].get("healthcheck"):
        entry.fail(f"{name} has no healthcheck here, so it would never count as healthy")
    return _STATES[wanted]


def _network(service: Node) -> Object:
    spec: Object = {}
    if hostname := service.get("hostname"):
        spec["hostname"] = hostname.text()
    if (mode := service.get("network_mode")) and mode.text() not in {"bridge", "host"}:
        mode.fail(f"{mode.raw!r} is refused: use bridge or host, or leave it out")
    if mode and mode.raw == "host":
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    for key, field in (("pid", "hostPID"), ("ipc", "hostIPC")):
        if node := service.get(key):
            if node.text() != "host":
                node.fail(f"{node.raw!r} is refused: only `host` is possible; leave it out")
            spec[field] = True
    if aliases := _host_aliases(service):
        spec["hostAliases"] = aliases
    if dns := _dns(service):
        spec["dnsConfig"] = dns
    return spec


def _host_aliases(service: Node) -> list[Object]:
    hosts = service.get("extra_hosts")
    if hosts is None:
        return []
    pairs: list[tuple[Node, str, str]] = []
    if isinstance(hosts.value, dict):
        for name, node in hosts.value.items():
            texts = node.texts() if isinstance(node.value, list) else [node.text()]
            pairs += [(node, name, text) for text in texts]
    else:
        pairs = [(node, *_host(node)) for node in hosts.sequence()]
    names: dict[str, list[str]] = {}
    for node, name, address in pairs:
        names.setdefault(_address(node, address), []).append(name)
    return [{"ip": address, "hostnames": known} for address, known in names.items()]


def _host(node: Node) -> tuple[str, str]:
    sign = "=" if "=" in node.text() else ":"
    name, found, address = node.raw.partition(sign)
    if not found:
        node.fail("write NAME=ADDRESS")
    return name, address


def _address(node: Node, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        node.fail(f"{text!r} is refused: an address is needed, such as 192.0.2.7")


def _dns(service: Node) -> Object:
    config: Object = {}
    for key, field in (("dns", "nameservers"), ("dns_search", "searches")):
        if node := service.get(key):
            config[field] = node.texts()
    if options := service.get("dns_opt"):
        pairs = [text.partition(":") for text in options.texts()]
        config["options"] = [{"name": n, **({"value": v} if s else {})} for n, s, v in pairs]
    return config


def _pod_security(service: Node) -> Object:
    context: Object = {}
    if groups := service.get("group_add"):
        for group in groups.sequence():
            if not group.text().isdigit():
                group.fail(f"{group.raw!r} is refused: Kubernetes takes group numbers only")
        context["supplementalGroups"] = [int(text) for text in groups.texts()]
    if sysctls := service.get("sysctls"):
        context["sysctls"] = [
            {"name": name, "value": value.text()} for name, value in sysctls.mapping().items()
        ]
    return context


def _placement(service: Node) -> Object:
    selector = _platform(service)
    excluded: list[Object] = []
    constraints = service.get("deploy", "placement", "constraints")
    for constraint in constraints.sequence() if constraints else ():
        if not (match := _CONSTRAINT.fullmatch(constraint.text())):
            constraint.fail("write NODE.FIELD == VALUE or NODE.FIELD != VALUE")
        field, operator, value = match.groups()
        key = _node_label(field, constraint)
        value = _ARCHITECTURES.get(value, value) if field.endswith(".arch") else value
        if operator == "!=":
            excluded.append({"key": key, "operator": "NotIn", "values": [value]})
        else:
            selector[key] = value
    spec: Object = {"nodeSelector": selector} if selector else {}
    if excluded:
        terms = [{"matchExpressions": excluded}]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        spec["affinity"] = {"nodeAffinity": required}
    if spread := _spread(service):
        spec["topologySpreadConstraints"] = spread
    return spec


def _node_label(field: str, at: Node) -> str:
    if field.startswith("node.labels."):
        return field.removeprefix("node.labels.")
    if field not in _NODE_LABELS:
        known = ", ".join((*_NODE_LABELS, "node.labels.NAME"))
        at.fail(f"{field} is refused: known are {known}")
    return _NODE_LABELS[field]


def _platform(service: Node) -> dict[str, str]:
    platform = service.get("platform")
    if platform is None:
        return {}
    system, _, machine = platform.text().partition("/")
    if system != "linux":
        platform.fail(f"{platform.raw!r} is refused: nodes run Linux")
    architecture = machine.partition("/")[0]
    labels: Mapping[str, str] = {"kubernetes.io/os": system, "kubernetes.io/arch": architecture}
    return {key: value for key, value in labels.items() if value}


def _spread(service: Node) -> list[Object]:
    preferences = service.get("deploy", "placement", "preferences")
    constraints = []
    for preference in preferences.sequence() if preferences else ():
        if not (spread := preference.get("spread")):
            preference.fail("`spread` is missing")
        constraints.append(
            {
                "maxSkew": 1,
                "topologyKey": _node_label(spread.text(), spread),
                "whenUnsatisfiable": "ScheduleAnyway",
            }
        )
    return constraints
