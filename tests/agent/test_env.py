"""What a container finds in its environment."""

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.agent.env import (
    ConfigError,
    Reference,
    Surroundings,
    environment,
    expand,
    pod_field,
    references,
    service_variables,
)
from sampan.agent.resources import Capacity
from sampan.agent.spec import ContainerSpec, NodePod
from sampan.api.objects import Object, Service
from tests.agent.situations import make_pod

META = {"labels": {"app": "web", "a": 'say "hi"'}, "annotations": {"x/y": "z"}}
SETTINGS = {"data": {"colour": "teal"}, "binaryData": {"raw": b64encode(b"b").decode()}}
KEYS = {"data": {"token": b64encode(b"s3cret").decode()}}
FOUND = {Reference("configmap", "settings"): SETTINGS, Reference("secret", "keys"): KEYS}


def around(**container: Any) -> tuple[ContainerSpec, Surroundings]:
    pod = make_pod(meta=META, containers=[{"name": "main", **container}])
    return pod.spec.containers[0], Surroundings(pod, "10.42.0.5", "192.0.2.7", Capacity(4, 1 << 30))


def env(*entries: Object, **more: Any) -> dict[str, str]:
    container, place = around(env=list(entries), **more)
    return environment(container, place, FOUND, [])


def from_(name: str, **source: Any) -> Object:
    return {"name": name, "valueFrom": source}


def test_plain_values_may_use_what_came_before() -> None:
    assert env({"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(C)-$$(A)"}) == {
        "A": "1",
        "B": "1-$(C)-$(A)",
    }


def test_values_from_config_maps_and_secrets() -> None:
    assert env(
        from_("C", configMapKeyRef={"name": "settings", "key": "colour"}),
        from_("T", secretKeyRef={"name": "keys", "key": "token"}),
    ) == {"C": "teal", "T": "s3cret"}


def test_all_of_a_config_map_with_a_prefix_and_env_has_the_last_word() -> None:
    sources = [{"prefix": "P_", "configMapRef": {"name": "settings"}}]
    assert env({"name": "P_colour", "value": "red"}, envFrom=sources) == {
        "P_colour": "red",
        "P_raw": "b",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "x"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "no", "key": "x"}}, 'secret "no" not found'),
        (
            {"secretKeyRef": {"name": "keys", "key": "no"}},
            "couldn't find key no in Secret default/keys",
        ),
        ({"fieldRef": {"fieldPath": "spec.no"}}, "'spec.no' is not one"),
        ({"resourceFieldRef": {"resource": "limits.no"}}, "'limits.no' is not one"),
    ],
)
def test_what_is_missing_is_named(source: Object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        env({"name": "X", "valueFrom": source})


def test_what_is_optional_may_be_missing() -> None:
    optional = {"name": "no", "optional": True}
    assert (
        env(
            from_("X", configMapKeyRef={**optional, "key": "x"}),
            from_("Y", secretKeyRef={"name": "keys", "key": "no", "optional": True}),
            envFrom=[{"configMapRef": optional}],
        )
        == {}
    )


def test_a_whole_source_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match='secret "no" not found'):
        env(envFrom=[{"secretRef": {"name": "no"}}])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "u1"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['x/y']", "z"),
        ("metadata.labels", 'a="say \\"hi\\""\napp="web"'),
        ("spec.nodeName", "n1"),
        ("status.podIP", "10.42.0.5"),
        ("status.hostIP", "192.0.2.7"),
    ],
)
def test_a_pods_own_fields(path: str, value: str) -> None:
    assert pod_field(path, around()[1]) == value


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.memory", "1Mi", "64"),
        ("limits.memory", "0", str(64 << 20)),
        ("requests.cpu", "1m", "250"),
        ("requests.cpu", "1", "1"),
        ("limits.cpu", "1", "4"),
    ],
)
def test_resources_are_rounded_up_and_without_a_limit_the_nodes(
    resource: str, divisor: str, value: str
) -> None:
    resources = {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}
    ref = {"resource": resource, "divisor": divisor}
    assert env(from_("X", resourceFieldRef=ref), resources=resources) == {"X": value}


def test_every_object_that_is_needed_is_known_beforehand() -> None:
    container, _ = around(
        env=[from_("C", configMapKeyRef={"name": "a", "key": "x"}), {"name": "P", "value": "1"}],
        envFrom=[{"secretRef": {"name": "b"}}],
    )
    assert set(references(container)) == {Reference("configmap", "a"), Reference("secret", "b")}


def service(name: str, ip: str, *ports: Object, namespace: str = "default") -> Service:
    spec = {"clusterIP": ip, "ports": list(ports)}
    return Service.of({"metadata": {"name": name, "namespace": namespace}, "spec": spec})


def links(pod: NodePod) -> dict[str, str]:
    return service_variables(
        [
            service("kubernetes", "10.43.0.1", {"port": 443, "name": "https"}),
            service("my-db", "10.43.0.9", {"port": 5432}),
            service("headless", "None", {"port": 80}),
            service("far", "10.43.0.8", {"port": 80}, namespace="other"),
        ],
        pod,
    )


def test_services_of_the_namespace_are_in_the_environment() -> None:
    found = links(make_pod())
    assert found["KUBERNETES_SERVICE_HOST"] == "10.43.0.1"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert found["MY_DB_SERVICE_HOST"] == "10.43.0.9"
    assert found["MY_DB_PORT_5432_TCP"] == "tcp://10.43.0.9:5432"
    assert found["MY_DB_PORT_5432_TCP_ADDR"] == "10.43.0.9"
    assert not any(name.startswith(("FAR", "HEADLESS")) for name in found)


def test_without_service_links_only_the_api_server_is() -> None:
    found = links(make_pod(enableServiceLinks=False))
    assert {name.partition("_")[0] for name in found} == {"KUBERNETES"}


@given(st.text())
def test_text_without_dollars_stays_as_it_is(text: str) -> None:
    plain = text.replace("$", "")
    assert expand(plain, {"A": "1"}) == plain
