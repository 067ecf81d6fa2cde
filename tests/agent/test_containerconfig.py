"""From a Pod's spec to what the runtime is asked for."""

from pathlib import Path
from typing import Any

import pytest

from sampan.agent.containerconfig import (
    MASKED,
    Cluster,
    Prepared,
    container_config,
    container_security,
    dns_config,
    hosts_file,
    sandbox_config,
)
from sampan.agent.cri import container_message, cri, sandbox_message
from sampan.agent.env import ConfigError
from sampan.agent.resources import limits
from sampan.agent.runtime import ContainerConfig, DnsConfig, Image, Mount, Seccomp, Security
from sampan.agent.spec import NodePod
from tests.agent.situations import make_pod

CLUSTER = Cluster("10.43.0.10", "cluster.local")
GIB = 1 << 30
APP = Image("sha256:1")


def with_container(*, pod: dict[str, Any] | None = None, **container: Any) -> NodePod:
    return make_pod(containers=[{"name": "main", "image": "app", **container}], **(pod or {}))


def made(image: Image = APP, **container: Any) -> ContainerConfig:
    pod = with_container(**container)
    ready = Prepared(image=image, env={"A": "x"}, mounts=(), node_memory=GIB)
    return container_config(pod, pod.spec.containers[0], 2, ready)


def secured(*, of_pod: Any = None, image: Image = APP, **context: Any) -> Security:
    pod = with_container(securityContext=context, pod={"securityContext": of_pod or {}})
    return container_security(pod, pod.spec.containers[0], image)


# Resources


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, (0, 2, 0)),
        ({"requests": {"cpu": "250m"}}, (0, 256, 0)),
        ({"limits": {"cpu": "200m", "memory": "32Mi"}}, (20_000, 204, 32 << 20)),
        ({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}, (200_000, 1024, 0)),
        ({"limits": {"cpu": "1m"}}, (1000, 2, 0)),
    ],
)
def test_cpu_and_memory_in_the_kernels_terms(
    resources: Any, expected: tuple[int, int, int]
) -> None:
    pod = with_container(resources=resources)
    found = limits(pod.spec.containers[0], "Burstable", GIB)
    assert (found.cpu_quota, found.cpu_shares, found.memory_limit_in_bytes) == expected


@pytest.mark.parametrize(
    ("qos", "memory", "score"),
    [
        ("Guaranteed", "1Gi", -997),
        ("BestEffort", "0", 1000),
        ("Burstable", "512Mi", 500),
        ("Burstable", "0", 999),
        ("Burstable", "1Gi", 3),
    ],
)
def test_who_dies_first_when_memory_runs_out(qos: str, memory: str, score: int) -> None:
    pod = with_container(resources={"requests": {"memory": memory}})
    assert limits(pod.spec.containers[0], qos, GIB).oom_score_adj == score


# Security


def test_without_a_word_a_container_has_the_runtimes_seccomp_profile_and_masked_paths() -> None:
    found = secured()
    assert found.seccomp == Seccomp("RuntimeDefault")
    assert found.masked_paths == MASKED
    assert not found.privileged
    assert not found.no_new_privs


def test_a_privileged_container_has_neither() -> None:
    found = secured(privileged=True)
    assert (found.privileged, found.seccomp, found.masked_paths) == (
        True,
        Seccomp("Unconfined"),
        (),
    )


def test_the_container_has_the_last_word_over_its_pod() -> None:
    assert secured(of_pod={"runAsUser": 1}, runAsUser=2).run_as_user == 2
    assert secured(of_pod={"runAsUser": 1}).run_as_user == 1
    profile = {"type": "Localhost", "localhostProfile": "p.json"}
    assert secured(of_pod={"seccompProfile": profile}).seccomp == Seccomp("Localhost", "p.json")


def test_a_group_alone_names_the_images_own_user_too() -> None:
    assert secured(runAsGroup=5, image=Image("i", 7)).run_as_user == 7
    assert secured(runAsGroup=5).run_as_user == 0


def test_groups_capabilities_and_privileges() -> None:
    found = secured(
        of_pod={"fsGroup": 9, "supplementalGroups": [8]},
        capabilities={"add": ["NET_ADMIN"], "drop": ["ALL"]},
        allowPrivilegeEscalation=False,
        readOnlyRootFilesystem=True,
    )
    assert found.supplemental_groups == (8, 9)
    assert (found.add_capabilities, found.drop_capabilities) == (("NET_ADMIN",), ("ALL",))
    assert found.no_new_privs
    assert found.readonly_rootfs


@pytest.mark.parametrize(
    ("context", "image", "message"),
    [
        ({}, Image("i"), "will run as root"),
        ({}, Image("i", 0), "will run as root"),
        ({"runAsUser": 0}, Image("i", 5), "breaks non-root policy"),
        ({}, Image("i", None, "www"), r"non-numeric user \(www\)"),
    ],
)
def test_who_must_not_be_root_is_refused_when_it_would_be(
    context: Any, image: Image, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        secured(runAsNonRoot=True, image=image, **context)


def test_who_must_not_be_root_and_is_not_may_run() -> None:
    assert secured(runAsNonRoot=True, image=Image("i", 5)).run_as_user is None
    assert secured(runAsNonRoot=True, runAsUser=5).run_as_user == 5


def test_namespaces_of_the_node_and_of_the_pod() -> None:
    own = sandbox_config(make_pod(), 0, Path("/l"), CLUSTER).security.namespaces
    assert (own.network, own.pid, own.ipc) == ("POD", "CONTAINER", "POD")
    pod = make_pod(hostNetwork=True, hostPID=True, hostIPC=True)
    hosts = sandbox_config(pod, 0, Path("/l"), CLUSTER).security.namespaces
    assert (hosts.network, hosts.pid, hosts.ipc) == ("NODE", "NODE", "NODE")
    shared = make_pod(shareProcessNamespace=True)
    assert sandbox_config(shared, 0, Path("/l"), CLUSTER).security.namespaces.pid == "POD"


# Names


def test_pods_ask_the_clusters_dns_with_their_namespace_first() -> None:
    assert dns_config(make_pod(), CLUSTER) == DnsConfig(
        ("10.43.0.10",),
        ("default.svc.cluster.local", "svc.cluster.local", "cluster.local"),
        ("ndots:5",),
    )


def test_who_is_on_the_nodes_network_asks_the_nodes_dns_unless_told_otherwise() -> None:
    assert dns_config(make_pod(hostNetwork=True), CLUSTER) is None
    assert dns_config(make_pod(dnsPolicy="Default"), CLUSTER) is None
    pod = make_pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    found = dns_config(pod, CLUSTER)
    assert found is not None
    assert found.servers == ("10.43.0.10",)


def test_a_pods_own_dns_settings_are_added_or_are_all_there_is() -> None:
    own = {
        "nameservers": ["192.0.2.53"],
        "searches": ["example.com"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    added = dns_config(make_pod(dnsConfig=own), CLUSTER)
    assert added is not None
    assert added.servers == ("10.43.0.10", "192.0.2.53")
    assert added.options == ("ndots:2", "edns0")
    alone = dns_config(make_pod(dnsConfig=own, dnsPolicy="None"), CLUSTER)
    assert alone == DnsConfig(("192.0.2.53",), ("example.com",), ("ndots:2", "edns0"))


def test_the_hosts_file_knows_the_pod_and_its_aliases() -> None:
    aliases = [{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]
    pod = make_pod(hostAliases=aliases, hostname="db-0", subdomain="db")
    text = hosts_file(pod, ["10.42.0.5"], CLUSTER, "")
    assert "127.0.0.1\tlocalhost\n" in text
    assert "10.42.0.5\tdb-0.db.default.svc.cluster.local db-0\n" in text
    assert text.endswith("192.0.2.9\ta b\n")
    on_host = make_pod(hostNetwork=True, hostAliases=aliases)
    assert hosts_file(on_host, [], CLUSTER, "1.2.3.4 me\n") == "1.2.3.4 me\n192.0.2.9\ta b\n"


# What goes over the wire


def test_a_sandbox_as_cri_has_it() -> None:
    pod = make_pod(
        meta={"labels": {"app": "web"}},
        containers=[
            {"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}]}
        ],
        securityContext={"sysctls": [{"name": "net.core.somaxconn", "value": "9"}]},
    )
    found = sandbox_message(sandbox_config(pod, 3, Path("/logs"), CLUSTER))
    assert (found.metadata.name, found.metadata.attempt, found.hostname) == ("web", 3, "web")
    assert found.log_directory == "/logs/default_web_u1"
    assert found.labels["io.kubernetes.pod.uid"] == "u1"
    assert found.labels["app"] == "web"
    assert found.dns_config.servers == ["10.43.0.10"]
    [port] = found.port_mappings
    assert (port.container_port, port.host_port, port.protocol) == (80, 8080, cri.UDP)
    assert found.linux.sysctls == {"net.core.somaxconn": "9"}


def test_a_container_as_cri_has_it() -> None:
    config = made(
        command=["run", "$(A)", "$(B)"],
        args=["$$(A)"],
        workingDir="/w",
        tty=True,
        securityContext={"runAsUser": 5},
        resources={"limits": {"memory": "32Mi"}},
    )
    found = container_message(config)
    assert (found.metadata.name, found.metadata.attempt) == ("main", 2)
    assert found.image.image == "sha256:1"
    assert found.command == ["run", "x", "$(B)"]
    assert found.args == ["$(A)"]
    assert [(e.key, e.value) for e in found.envs] == [("A", "x")]
    assert found.log_path == "main/2.log"
    assert found.annotations["sampan.io/image"] == "app"
    assert found.linux.resources.memory_limit_in_bytes == 32 << 20
    context = found.linux.security_context
    assert context.run_as_user.value == 5
    assert not context.HasField("run_as_group")
    assert context.namespace_options.pid == cri.CONTAINER
    assert context.seccomp.profile_type == cri.SecurityProfile.RuntimeDefault


def test_a_mount_as_cri_has_it() -> None:
    mount = Mount(
        container_path="/v",
        host_path="/h",
        readonly=True,
        propagation="PROPAGATION_HOST_TO_CONTAINER",
    )
    ready = Prepared(image=Image("i"), env={}, mounts=(mount,), node_memory=GIB)
    pod = with_container()
    [found] = container_message(container_config(pod, pod.spec.containers[0], 0, ready)).mounts
    assert (found.container_path, found.host_path, found.readonly) == ("/v", "/h", True)
    assert found.propagation == cri.PROPAGATION_HOST_TO_CONTAINER
