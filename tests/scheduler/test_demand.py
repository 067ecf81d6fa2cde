from typing import Any

import pytest

from sampan.api.objects import Object
from sampan.scheduler.demand import Demands, HostPort, together_by
from tests.scheduler.support import pod

MI = 1024**2


def container(cpu: str = "", memory: str = "", **more: Any) -> Object:
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v}
    return {"name": "c", "resources": {"requests": requests}, **more}


SIDECAR: Object = {"restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("spec", "cpu", "memory"),
    [
        ({"containers": [container("100m", "64Mi"), container("0.5")]}, 600, 64 * MI),
        (
            {"containers": [container("100m")], "initContainers": [container("1", "1Mi")]},
            1000,
            MI,
        ),
        (
            {
                "containers": [container("100m")],
                "initContainers": [container("200m", **SIDECAR), container("250m")],
            },
            450,
            0,
        ),
        (
            {
                "containers": [container("300m")],
                "initContainers": [container("400m"), container("200m", **SIDECAR)],
            },
            500,
            0,
        ),
        (
            {"containers": [container("100m")], "overhead": {"cpu": "50m", "memory": "8Mi"}},
            150,
            8 * MI,
        ),
        (
            {
                "containers": [container("100m", "1Mi")],
                "resources": {"requests": {"cpu": "2"}},
            },
            2000,
            MI,
        ),
        ({"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]}, 2000, 0),
        ({"containers": [container()]}, 0, 0),
    ],
)
def test_a_pod_needs_what_it_needs_at_its_hungriest(spec: Object, cpu: int, memory: int) -> None:
    requests = Demands().of(pod(**spec)).requests
    assert (requests.get("cpu", 0), requests.get("memory", 0)) == (cpu, memory)
    assert requests["pods"] == 1


def test_a_container_that_asks_for_nothing_weighs_something() -> None:
    assert Demands().of(pod(containers=[container("1"), container()])).weighed == (
        1100,
        400 * MI,
    )


def test_pods_that_ask_the_same_share_one_demand() -> None:
    demands = Demands()
    assert demands.of(pod("a", cpu="1")) is demands.of(pod("b", cpu="1"))
    assert demands.of(pod("a", cpu="1")) is demands.of(pod("c", cpu="1", nodeName="n1"))
    assert demands.of(pod(cpu="1")) is not demands.of(pod(cpu="2"))
    assert demands.of(pod(labels={"a": "b"})) is not demands.of(pod())
    assert demands.of(pod(owner="x")) is not demands.of(pod(owner="y"))


def test_sidecars_keep_their_host_ports_and_init_containers_do_not() -> None:
    port: Object = {"ports": [{"containerPort": 1, "hostPort": 1000}]}
    sidecar: Object = {"ports": [{"containerPort": 1, "hostPort": 2000, "protocol": "UDP"}]}
    spec = {
        "containers": [container()],
        "initContainers": [container(**port), container(**sidecar, **SIDECAR)],
    }
    assert Demands().of(pod(**spec)).ports == (HostPort("UDP", 2000, "0.0.0.0"),)


def test_who_has_neither_owner_nor_service_is_not_spread() -> None:
    demands = Demands()
    assert demands.of(pod()).spreads == ()
    assert len(demands.of(pod(owner="rs")).spreads) == 2
    assert len(demands.of(pod(), together_by("default", [{"app": "web"}])).spreads) == 2
    assert together_by("default", []) is None
