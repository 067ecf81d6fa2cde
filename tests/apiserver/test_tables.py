"""What kubectl's tables say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.kinds import BY_GVK, KINDS, Kind
from sampan.api.objects import Object
from sampan.apiserver.tables import table
from sampan.apiserver.tables.columns import duration
from sampan.apiserver.tables.pods import summary

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)
BORN = "2026-01-01T00:00:00Z"


def row(kind: Kind, obj: Object, *, wide: bool = False) -> dict[str, Any]:
    meta = {"name": "x", "creationTimestamp": BORN, **obj.get("metadata", {})}
    made = table(kind, [{**obj, "metadata": meta}], NOW)
    [cells] = [one["cells"] for one in made["rows"]]
    columns = made["columnDefinitions"]
    assert len(cells) == len(columns)
    return {
        column["name"]: cell
        for column, cell in zip(columns, cells, strict=True)
        if wide or not column["priority"]
    }


def pod(*statuses: Object, **status: Any) -> Object:
    count = max(len(statuses), 1)
    return {
        "metadata": {},
        "spec": {"containers": [{"name": f"c{n}"} for n in range(count)]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": f"c{n}", **s} for n, s in enumerate(statuses)],
            **status,
        },
    }


RUNNING: Object = {"ready": True, "state": {"running": {}}}
READY = [{"type": "Ready", "status": "True"}]


def waiting(reason: str) -> Object:
    return {"state": {"waiting": {"reason": reason}}}


def ended(code: int = 0, **more: Any) -> Object:
    return {"state": {"terminated": {"exitCode": code, **more}}}


def starting(*statuses: Object) -> Object:
    made = pod({"state": {"waiting": {"reason": "PodInitializing"}}}, phase="Pending")
    made["spec"]["initContainers"] = [{"name": f"i{n}"} for n in range(len(statuses))]
    made["status"]["initContainerStatuses"] = [
        {"name": f"i{n}", **status} for n, status in enumerate(statuses)
    ]
    return made


def deleting(made: Object) -> Object:
    return {**made, "metadata": {"deletionTimestamp": BORN}}


WORDS: list[tuple[Object, str]] = [
    (pod(phase="Pending"), "Pending"),
    (pod(waiting("ContainerCreating"), phase="Pending"), "ContainerCreating"),
    (pod(waiting("CrashLoopBackOff")), "CrashLoopBackOff"),
    (pod(waiting("ErrImagePull"), RUNNING), "ErrImagePull"),
    (pod(RUNNING), "Running"),
    (pod(ended(reason="Completed"), phase="Succeeded"), "Completed"),
    (pod(ended(137, reason="OOMKilled")), "OOMKilled"),
    (pod(ended(3), phase="Failed"), "ExitCode:3"),
    (pod(ended(0, signal=9), phase="Failed"), "Signal:9"),
    (pod(ended(reason="Completed"), RUNNING, conditions=READY), "Running"),
    (pod(ended(reason="Completed"), RUNNING), "NotReady"),
    (pod(phase="Failed", reason="Evicted"), "Evicted"),
    (deleting(pod(RUNNING)), "Terminating"),
    (deleting(pod(RUNNING, reason="NodeLost")), "Unknown"),
    (deleting(pod(ended(reason="Completed"), phase="Succeeded")), "Completed"),
    (starting(waiting("PodInitializing"), waiting("PodInitializing")), "Init:0/2"),
    (starting(ended(), {"state": {"running": {}}}), "Init:1/2"),
    (starting(waiting("CrashLoopBackOff")), "Init:CrashLoopBackOff"),
    (starting(ended(2)), "Init:ExitCode:2"),
    (starting(ended(1, reason="Error")), "Init:Error"),
    (pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False",
                                       "reason": "SchedulingGated"}]), "SchedulingGated"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "word"), WORDS, ids=[word for _, word in WORDS])
def test_one_word_says_how_a_pod_is(made: Object, word: str) -> None:
    assert summary(made).word == word


def test_a_pods_row() -> None:
    crashed = {
        **waiting("CrashLoopBackOff"),
        "restartCount": 3,
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:55Z"}},
    }
    assert row(kinds.PODS, pod(RUNNING, crashed)) == {
        "Name": "x",
        "Ready": "1/2",
        "Status": "CrashLoopBackOff",
        "Restarts": "3 (5s ago)",
        "Age": "60m",
    }


def test_a_wide_pod_row_tells_where_it_runs() -> None:
    made = pod(RUNNING, podIPs=[{"ip": "10.42.0.9"}], conditions=READY)
    made["spec"] |= {"nodeName": "n1", "readinessGates": [{"conditionType": "Ready"}]}
    cells = row(kinds.PODS, made, wide=True)
    assert (cells["IP"], cells["Node"], cells["Readiness Gates"]) == ("10.42.0.9", "n1", "1/1")
    assert cells["Nominated Node"] == "<none>"


def test_a_sidecar_counts_as_a_container() -> None:
    made = pod(RUNNING)
    made["spec"]["initContainers"] = [{"name": "proxy", "restartPolicy": "Always"}]
    made["status"]["initContainerStatuses"] = [
        {"name": "proxy", "ready": True, "started": True, "restartCount": 2,
         "state": {"running": {}}}
    ]  # fmt: skip
    told = summary(made)
    assert (told.ready, told.total, told.restarts, told.word) == (2, 2, 2, "Running")


ROWS: list[tuple[Kind, Object, dict[str, Any]]] = [
    (kinds.DEPLOYMENTS, {"spec": {"replicas": 3}, "status": {
        "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}},
     {"Ready": "2/3", "Up-to-date": 1, "Available": 2}),
    (kinds.REPLICA_SETS, {"spec": {"replicas": 3}, "status": {"replicas": 2}},
     {"Desired": 3, "Current": 2, "Ready": 0}),
    (kinds.STATEFUL_SETS, {"spec": {"replicas": 1}}, {"Ready": "0/1"}),
    (kinds.DAEMON_SETS, {"status": {"desiredNumberScheduled": 3, "numberReady": 1}},
     {"Desired": 3, "Ready": 1, "Node Selector": "<none>"}),
    (kinds.JOBS, {"spec": {"completions": 2}, "status": {
        "succeeded": 1, "startTime": BORN, "completionTime": "2026-01-01T00:00:42Z",
        "conditions": [{"type": "SuccessCriteriaMet", "status": "True"},
                       {"type": "Complete", "status": "True"}]}},
     {"Status": "Complete", "Completions": "1/2", "Duration": "42s"}),
    (kinds.CRON_JOBS, {"spec": {"schedule": "* * * * *", "suspend": False}},
     {"Schedule": "* * * * *", "Timezone": "<none>", "Suspend": "False",
      "Last Schedule": "<none>"}),
    (kinds.SERVICES, {"spec": {"type": "NodePort", "clusterIP": "10.43.0.9", "ports": [
        {"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}},
     {"Type": "NodePort", "Cluster-IP": "10.43.0.9", "External-IP": "<none>",
      "Port(s)": "80:30080/TCP,53/UDP"}),
    (kinds.SERVICES, {"spec": {"type": "LoadBalancer"}}, {"External-IP": "<pending>"}),
    (kinds.SERVICES, {"spec": {"type": "ExternalName", "externalName": "example.com"}},
     {"External-IP": "example.com", "Cluster-IP": "<none>"}),
    (kinds.ENDPOINTS, {"subsets": [{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(5)],
                                    "ports": [{"port": 80}]}]},
     {"Endpoints": "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."}),
    (kinds.ENDPOINT_SLICES, {"addressType": "IPv4", "ports": [{"port": 80}],
                             "endpoints": [{"addresses": ["10.0.0.1"]}]},
     {"AddressType": "IPv4", "Ports": "80", "Endpoints": "10.0.0.1"}),
    (kinds.NODES, {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
                   "spec": {"unschedulable": True},
                   "status": {"conditions": READY, "nodeInfo": {"kubeletVersion": "v1"}}},
     {"Status": "Ready,SchedulingDisabled", "Roles": "control-plane", "Version": "v1"}),
    (kinds.NODES, {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
     {"Status": "NotReady", "Roles": "<none>"}),
    (kinds.NAMESPACES, {"status": {"phase": "Active"}}, {"Status": "Active", "Age": "60m"}),
    (kinds.CONFIGMAPS, {"data": {"a": "1"}, "binaryData": {"b": ""}}, {"Data": 2}),
    (kinds.SECRETS, {"type": "Opaque", "data": {"a": "1"}}, {"Type": "Opaque", "Data": 1}),
    (kinds.EVENTS, {"involvedObject": {"kind": "Pod", "name": "web"}, "message": "hi\n",
                    "lastTimestamp": "2026-01-01T00:59:00Z", "type": "Normal", "reason": "R"},
     {"Last Seen": "60s", "Type": "Normal", "Reason": "R", "Object": "pod/web", "Message": "hi"}),
    (BY_GVK["events.k8s.io/v1", "Event"], {"regarding": {"kind": "Pod", "name": "web"},
                                           "note": "hi", "eventTime": BORN},
     {"Object": "pod/web", "Message": "hi", "Last Seen": "60m"}),
    (kinds.PERSISTENT_VOLUME_CLAIMS, {"status": {
        "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}},
     {"Status": "Bound", "Access Modes": "RWO", "Capacity": "1Gi"}),
    (BY_GVK["storage.k8s.io/v1", "StorageClass"],
     {"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
      "provisioner": "p"}, {"Name": "x (default)", "ReclaimPolicy": "Delete"}),
    (BY_GVK["autoscaling/v2", "HorizontalPodAutoscaler"], {"spec": {
        "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3,
        "metrics": [{"type": "Resource", "resource": {
            "name": "cpu", "target": {"averageUtilization": 80}}}]}},
     {"Reference": "Deployment/web", "Targets": "cpu: <unknown>/80%", "MinPods": "1"}),
    (BY_GVK["policy/v1", "PodDisruptionBudget"], {"spec": {"minAvailable": "50%"}},
     {"Min Available": "50%", "Max Unavailable": "N/A", "Allowed Disruptions": 0}),
    (BY_GVK["networking.k8s.io/v1", "Ingress"], {"spec": {"rules": [{"host": "a.b"}]}},
     {"Class": "<none>", "Hosts": "a.b", "Address": "", "Ports": "80"}),
    (BY_GVK["networking.k8s.io/v1", "NetworkPolicy"],
     {"spec": {"podSelector": {"matchExpressions": [
         {"key": "a", "operator": "In", "values": ["b", "c"]}]}}}, {"Pod-Selector": "a in (b,c)"}),
    (BY_GVK["certificates.k8s.io/v1", "CertificateSigningRequest"],
     {"spec": {"signerName": "s", "username": "u"},
      "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}},
     {"Condition": "Approved,Issued", "Requestor": "u"}),
    (kinds.ROLE_BINDINGS, {"roleRef": {"kind": "Role", "name": "r"}}, {"Role": "Role/r"}),
    (kinds.PRIORITY_CLASSES, {"value": 5}, {"Value": 5, "Global-Default": "false"}),
    (kinds.LEASES, {"spec": {"holderIdentity": "n1"}}, {"Holder": "n1"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "obj", "cells"), ROWS, ids=[f"{kind.kind}-{n}" for n, (kind, *_) in enumerate(ROWS)]
)
def test_the_cells_of_a_row(kind: Kind, obj: Object, cells: dict[str, Any]) -> None:
    shown = row(kind, obj, wide=True)
    assert {name: shown[name] for name in cells} == cells


@pytest.mark.parametrize("kind", KINDS, ids=[f"{k.group}/{k.kind}" for k in KINDS])
def test_every_kind_has_a_table_even_for_an_empty_object(kind: Kind) -> None:
    bare: Object = {"roleRef": {}, "subjects": []}
    assert row(kind, bare)["Name" if kind.kind != "Event" else "Object"] is not None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (135, "2m15s"),
        (600, "10m"), (10799, "179m"), (10800, "3h"), (11000, "3h3m"), (100_000, "27h"),
        (172_800, "2d"), (180_000, "2d2h"), (864_000, "10d"), (86400 * 800, "2y70d"),
        (86400 * 365 * 9, "9y"),
    ],
)  # fmt: skip
def test_durations_are_said_as_kubectl_says_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@given(st.integers(0, 10**9))
def test_a_duration_has_at_most_two_units(seconds: int) -> None:
    assert 1 <= sum(char.isalpha() for char in duration(seconds)) <= 2


def test_an_age_is_told_from_now() -> None:
    made = table(kinds.CONFIGMAPS, [{"metadata": {"creationTimestamp": BORN}}], NOW)
    later = table(
        kinds.CONFIGMAPS, [{"metadata": {"creationTimestamp": BORN}}], NOW + timedelta(hours=9)
    )
    assert (made["rows"][0]["cells"][-1], later["rows"][0]["cells"][-1]) == ("60m", "10h")
