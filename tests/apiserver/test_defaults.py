"""Defaults, as Kubernetes fills them in."""

from copy import deepcopy
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object
from sampan.apiserver import defaults
from sampan.apiserver.defaults.pods import pull_policy, quality_of_service
from tests.apiserver.support import deployment, pod, service


def defaulted(kind: Kind, obj: Object) -> Object:
    copy = deepcopy(obj)
    defaults.apply(kind, copy)
    return copy


def test_a_pod_gets_what_kubernetes_gives_it() -> None:
    spec = defaulted(kinds.PODS, pod())["spec"]
    assert {key: value for key, value in spec.items() if key != "containers"} == {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }
    assert spec["containers"] == [
        {
            "name": "main",
            "image": "busybox:1",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }
    ]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("registry:5000/web", "Always"),
        ("registry:5000/web:1", "IfNotPresent"),
        ("web@sha256:0123", "IfNotPresent"),
    ],
)
def test_only_what_may_change_is_always_pulled(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_a_limit_is_a_request_of_a_pod_and_not_of_a_template() -> None:
    resources = {"limits": {"cpu": 1, "memory": "1Gi"}}
    made = pod()
    made["spec"]["containers"][0]["resources"] = resources
    asked = defaulted(kinds.PODS, made)["spec"]["containers"][0]["resources"]
    assert asked["requests"] == {"cpu": "1", "memory": "1Gi"}
    template = deployment()
    template["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    inner = defaulted(kinds.DEPLOYMENTS, template)["spec"]["template"]["spec"]
    assert "requests" not in inner["containers"][0]["resources"]


def test_probes_get_their_numbers() -> None:
    made = pod()
    made["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": 80}, "periodSeconds": 1}
    probe = defaulted(kinds.PODS, made)["spec"]["containers"][0]["readinessProbe"]
    assert probe == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def test_a_deployment_rolls_by_quarters() -> None:
    spec = defaulted(kinds.DEPLOYMENTS, deployment())["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)


def test_a_recreating_deployment_gets_no_rolling_numbers() -> None:
    spec = defaulted(kinds.DEPLOYMENTS, deployment(strategy={"type": "Recreate"}))["spec"]
    assert spec["strategy"] == {"type": "Recreate"}


def test_a_service_gets_its_policies_and_target_ports() -> None:
    spec = defaulted(kinds.SERVICES, service(type="NodePort"))["spec"]
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert spec["sessionAffinity"] == "None"
    assert spec["internalTrafficPolicy"] == spec["externalTrafficPolicy"] == "Cluster"


def test_a_secrets_plain_text_becomes_data() -> None:
    made = {"metadata": {"name": "s"}, "data": {"a": "eA=="}, "stringData": {"b": "y"}}
    secret = defaulted(kinds.SECRETS, made)
    assert (secret["type"], secret["data"]) == ("Opaque", {"a": "eA==", "b": "eQ=="})
    assert "stringData" not in secret


def test_a_namespace_is_labelled_with_its_name() -> None:
    made = defaulted(kinds.NAMESPACES, {"metadata": {"name": "team"}})
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "team"}


def test_a_job_runs_once_and_a_work_queue_as_long_as_it_takes() -> None:
    once = defaulted(kinds.JOBS, {"spec": {}})["spec"]
    assert (once["completions"], once["parallelism"], once["backoffLimit"]) == (1, 1, 6)
    queue = defaulted(kinds.JOBS, {"spec": {"parallelism": 3}})["spec"]
    assert "completions" not in queue


def test_a_pod_failure_policy_means_conditions_that_are_true() -> None:
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    spec = defaulted(kinds.JOBS, {"spec": {"podFailurePolicy": {"rules": [rule]}}})["spec"]
    [pattern] = spec["podFailurePolicy"]["rules"][0]["onPodConditions"]
    assert pattern == {"type": "DisruptionTarget", "status": "True"}
    assert spec["podReplacementPolicy"] == "Failed"


def test_a_network_policy_covers_the_directions_it_names() -> None:
    policies = BY_GVK["networking.k8s.io/v1", "NetworkPolicy"]
    spec = defaulted(policies, {"spec": {"egress": [{"ports": [{"port": 53}]}]}})["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == [{"ports": [{"port": 53, "protocol": "TCP"}]}]


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
        ([{"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}],
         "Burstable"),
        ([{"limits": {"example.com/device": "1"}}], "BestEffort"),
    ],
)  # fmt: skip
def test_the_quality_of_service_follows_from_requests_and_limits(
    resources: list[Any], quality: str
) -> None:
    spec = {"containers": [{"name": str(n), "resources": r} for n, r in enumerate(resources)]}
    assert quality_of_service(spec) == quality


SAMPLES: list[tuple[Kind, Object]] = [
    (kinds.PODS, pod(volumes=[{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}])),
    (kinds.DEPLOYMENTS, deployment()),
    (kinds.SERVICES, service(type="LoadBalancer", sessionAffinity="ClientIP")),
    (kinds.STATEFUL_SETS, deployment()),
    (kinds.DAEMON_SETS, deployment()),
    (kinds.JOBS, {"spec": {"template": {"spec": pod()["spec"]}}}),
    (kinds.CRON_JOBS, {"spec": {"jobTemplate": {"spec": {"template": {"spec": pod()["spec"]}}}}}),
    (kinds.ENDPOINT_SLICES, {"ports": [{"port": 80}]}),
    (kinds.SECRETS, {"stringData": {"a": "b"}}),
]


@pytest.mark.parametrize(("kind", "obj"), SAMPLES, ids=[kind.kind for kind, _ in SAMPLES])
def test_what_has_its_defaults_is_left_as_it_is(kind: Kind, obj: Object) -> None:
    once = defaulted(kind, obj)
    assert defaulted(kind, once) == once
