"""The workloads of kube-scheduler's scheduler_perf, as objects (BENCHMARKS.md, 7.1).

Nodes have 4 CPU, 32 GiB and room for 110 Pods; Pods ask for 100m CPU and 500 MiB unless the
workload says otherwise. A reference is the threshold that kube-scheduler's CI demands, in Pods a
second through its API and etcd; sizes are (nodes, Pods before, Pods measured).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sampan.api.objects import Object
from sampan.scheduler.demand import HOSTNAME, ZONE

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
Sizes = tuple[int, int, int]
Maker = Callable[[int], Object]


@dataclass(frozen=True)
class Workload:
    name: str
    measured: Maker
    full: Sizes
    small: Sizes = (500, 200, 1000)
    before: Maker | None = None
    node: Maker | None = None
    reference: str = "-"
    goal: str = "-"
    churn: Maker | None = None
    """A Pod that comes every 200 ms beside the measured ones."""
    restless: bool = False
    """Every second a node goes and another comes."""
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    service: Mapping[str, str] | None = None
    """The selector of a Service that spreads the measured Pods."""
    volumes: bool = False
    """Every Pod has a claim of its own, bound to a volume of a driver that nodes limit."""


def node(number: int, labels: Mapping[str, str] | None = None, **room: str) -> Object:
    name = f"node-{number}"
    allocatable = {"cpu": "4", "memory": "32Gi", "pods": "110", **room}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {HOSTNAME: name, **(labels or {})}},
        "status": {
            "allocatable": allocatable,
            "capacity": allocatable,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def zoned(number: int) -> Object:
    return node(number, {ZONE: f"moon-{number % 3 + 1}"})


def one_zone(number: int) -> Object:
    return node(number, {ZONE: "zone1"})


def pooled(number: int) -> Object:
    return node(number, {"pool": f"pool-{number % 200}"})


def pod(
    sort: str,
    number: int,
    labels: Mapping[str, str] | None = None,
    *,
    cpu: str = "100m",
    memory: str = "500Mi",
    namespace: str = "default",
    **spec: Any,
) -> Object:
    requests = {"cpu": cpu, "memory": memory} if cpu else {}
    container: Object = {"name": "pause", "image": "pause", "resources": {"requests": requests}}
    name = f"{sort}-{number}"
    meta = {"name": name, "namespace": namespace, "uid": name, "labels": dict(labels or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [container], **spec},
    }


def plain(number: int) -> Object:
    return pod("plain", number)


def before(number: int) -> Object:
    return pod("before", number)


def low(number: int) -> Object:
    return pod("low", number, cpu="900m")


def high(number: int) -> Object:
    return pod("high", number, cpu="3", priority=10)


def hopeless(number: int) -> Object:
    return pod("hopeless", number, cpu="9", priority=10)


def different(number: int) -> Object:
    selector = {"pool": f"pool-{number % 200}"}
    cpu, memory = f"{50 + number % 100}m", f"{300 + number // 100 % 400}Mi"
    return pod("different", number, cpu=cpu, memory=memory, nodeSelector=selector)


def daemon(number: int) -> Object:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-0"]}]}
    return pod("daemon", number, cpu="", affinity=_nodes(term))


def in_zones(number: int) -> Object:
    wanted = {"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]}
    return pod("picky", number, affinity=_nodes({"matchExpressions": [wanted]}))


def _nodes(term: Object) -> Object:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}


def _term(labels: Mapping[str, str], key: str, **more: Any) -> Object:
    return {"topologyKey": key, "labelSelector": {"matchLabels": labels}, **more}


def required(sort: str, labels: Mapping[str, str], key: str, **more: Any) -> Object:
    return {sort: {REQUIRED: [_term(labels, key, **more)]}}


def preferred(sort: str, labels: Mapping[str, str], key: str, **more: Any) -> Object:
    wish = {"weight": 1, "podAffinityTerm": _term(labels, key, **more)}
    return {sort: {PREFERRED: [wish]}}


GREEN, BLUE = {"color": "green"}, {"color": "blue"}
RED, YELLOW = {"color": "red"}, {"color": "yellow"}
BOTH = {"namespaces": ["a", "b"]}
TEAM = {"namespaceSelector": {"matchLabels": {"team": "devops"}}}
NAMESPACES = {"a": {}, "b": {}}
TEAMS = {f"ns-{i}": {"team": "devops"} for i in range(100)} | {"b": {"team": "devops"}}

Affinity = Callable[..., Object]


def social(name: str, labels: Mapping[str, str], affinity: Object, namespace: str = "b") -> Maker:
    def make(number: int) -> Object:
        space = f"ns-{number % 100}" if namespace == "*" else namespace
        return pod(name, number, labels, namespace=space, affinity=affinity)

    return make


APART = required("podAntiAffinity", GREEN, HOSTNAME, **BOTH)
BESIDE = required("podAffinity", BLUE, ZONE, **BOTH)
LIKES = preferred("podAffinity", RED, HOSTNAME)
DISLIKES = preferred("podAntiAffinity", YELLOW, HOSTNAME)


def mixed(number: int) -> Object:
    """One of plain, beside, apart, liking and disliking, in turn; all in one namespace."""
    sorts: tuple[tuple[Mapping[str, str], Object], ...] = (
        ({}, {}), (BLUE, BESIDE), (GREEN, APART), (RED, LIKES), (YELLOW, DISLIKES),
    )  # fmt: skip
    labels, affinity = sorts[number % 5]
    return pod("mixed", number, labels, namespace="b", affinity=affinity)


def spread(sort: str, how: str, key: str = ZONE, skew: int = 5, **more: Any) -> Maker:
    constraint = {
        "maxSkew": skew,
        "topologyKey": key,
        "whenUnsatisfiable": how,
        "labelSelector": {"matchLabels": BLUE},
        **more,
    }

    def make(number: int) -> Object:
        return pod(sort, number, BLUE, topologySpreadConstraints=[constraint])

    return make


def partly_tainted(number: int) -> Object:
    made = node(number)
    if number % 5 == 4:
        made["spec"] = {"taints": [{"key": "foo", "value": "", "effect": "NoSchedule"}]}
    return made


def replica(number: int) -> Object:
    return pod("replica", number, {"app": "scheduler-perf"})


def with_port(number: int) -> Object:
    made = pod("port", number)
    made["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
    return made


def large(number: int) -> Object:
    return pod("large", number, cpu="3", memory="1Gi")


def with_claim(number: int) -> Object:
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-{number}"}}
    return pod("stored", number, volumes=[claim])


def roomy_first(number: int) -> Object:
    return node(number, pods="90000") if number == 0 else node(number)


WORKLOADS = (
    Workload("S1 basic", plain, (5000, 1000, 10_000), before=before, reference="680", goal="10000"),
    Workload("S1 basic, more", plain, (5000, 5000, 50_000), before=before, reference="810",
             goal="10000"),
    Workload("S2 all different, 1 of 200 selectors", different, (5000, 1000, 10_000),
             before=before, node=pooled, goal="3000"),
    Workload("S3 daemonset", daemon, (15_000, 0, 30_000), (1500, 0, 3000), node=roomy_first,
             reference="1100"),
    Workload("S4 node affinity", in_zones, (5000, 5000, 10_000), before=before, node=one_zone,
             reference="220"),
    Workload("S5 anti-affinity", social("green", GREEN, APART), (5000, 1000, 2000), (500, 100, 200),
             before=social("old", GREEN, APART, "a"), namespaces=NAMESPACES, reference="60",
             goal="1500"),
    Workload("S6 matching anti-affinity", social("match", GREEN, {}), (5000, 1000, 5000),
             (500, 100, 500), before=social("old", GREEN, APART, "a"), namespaces=NAMESPACES,
             reference="595", goal="1500"),
    Workload("S7 affinity", social("blue", BLUE, BESIDE), (5000, 5000, 5000), node=one_zone,
             before=social("old", BLUE, BESIDE, "a"), namespaces=NAMESPACES, reference="35",
             goal="1000"),
    Workload("S8 preferred affinity", social("red", RED, LIKES), (5000, 5000, 5000),
             before=social("old", RED, LIKES), reference="90", goal="1000"),
    Workload("S9 preferred anti-affinity", social("yellow", YELLOW, DISLIKES), (5000, 5000, 5000),
             before=social("old", YELLOW, DISLIKES), reference="90", goal="1000"),
    Workload("S10 anti-affinity by namespace selector",
             social("green", GREEN, required("podAntiAffinity", GREEN, HOSTNAME, **TEAM)),
             (6000, 4000, 2000), (600, 400, 200), namespaces=TEAMS,
             before=social("old", GREEN, required("podAntiAffinity", GREEN, HOSTNAME, **TEAM), "*"),
             reference="24", goal="1000"),
    Workload("S11 affinity by namespace selector",
             social("blue", BLUE, required("podAffinity", BLUE, ZONE, **TEAM)), (6000, 5000, 2000),
             (600, 500, 200), node=one_zone, namespaces=TEAMS,
             before=social("old", BLUE, required("podAffinity", BLUE, ZONE, **TEAM), "*"),
             reference="35", goal="1000"),
    Workload("S11 preferred anti-affinity by namespace selector",
             social("yellow", YELLOW, preferred("podAntiAffinity", YELLOW, HOSTNAME, **TEAM)),
             (6000, 4000, 2000), (600, 400, 200), namespaces=TEAMS,
             before=social("old", YELLOW,
                           preferred("podAntiAffinity", YELLOW, HOSTNAME, **TEAM), "*"),
             reference="55", goal="1000"),
    Workload("S11 preferred affinity by namespace selector",
             social("red", RED, preferred("podAffinity", RED, HOSTNAME, **TEAM)),
             (6000, 5000, 5000), (600, 500, 500), namespaces=TEAMS,
             before=social("old", RED, preferred("podAffinity", RED, HOSTNAME, **TEAM), "*"),
             reference="90", goal="1000"),
    Workload("S12 mixed", plain, (5000, 10_000, 5000), (500, 1000, 1000), before=mixed,
             node=one_zone, namespaces=NAMESPACES, reference="140"),
    Workload("S13 spread, hard", spread("hard", "DoNotSchedule"), (5000, 5000, 5000),
             before=before, node=zoned, reference="460", goal="2000"),
    Workload("S14 spread, soft", spread("soft", "ScheduleAnyway"), (5000, 5000, 5000),
             before=before, node=zoned, reference="340", goal="2000"),
    Workload("S15 spread by default", replica, (5000, 5000, 50_000), (500, 200, 5000),
             before=before, node=zoned, service={"app": "scheduler-perf"}, reference="160",
             goal="2000"),
    Workload("S16 inclusion policy",
             spread("honest", "DoNotSchedule", HOSTNAME, 1, nodeTaintsPolicy="Honor"),
             (5000, 0, 4000), (500, 0, 400), node=partly_tainted, reference="270"),
    Workload("S18 while others preempt", plain, (5000, 20_000, 5000), (500, 2000, 1500), before=low,
             churn=high, reference="570", goal="S1 less 10 %"),
    Workload("S19 while hopeless ones arrive", plain, (5000, 100, 10_000), (500, 10, 5000),
             before=before, churn=hopeless, reference="590", goal="S1 less 10 %"),
    Workload("S19 the same, a full cluster", plain, (5000, 20_000, 10_000), (500, 2000, 5000),
             before=before, churn=hopeless, reference="600", goal="S1 less 10 %"),
    Workload("S20 churn", plain, (5000, 0, 10_000), (500, 0, 5000), churn=hopeless, restless=True,
             reference="710"),
    Workload("S23 volumes", with_claim, (5000, 5000, 5000), (500, 500, 500), before=before,
             volumes=True, reference="100-290"),
    Workload("S24 a host port each", with_port, (20_000, 0, 20_000), (1000, 0, 1000)),
    Workload("S24 three CPUs each", large, (20_000, 0, 20_000), (1000, 0, 1000)),
)  # fmt: skip


def made(make: Maker | None, number: int) -> Iterable[Object]:
    return (make(i) for i in range(number)) if make else ()
