"""The same Pods on a real containerd: what a runtime in memory cannot know."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from sampan.agent.config import AgentConfig
from sampan.agent.cri import open_runtime
from sampan.agent.pods import NEIGHBOURS, Pods
from sampan.agent.runtime import RuntimeFailure
from sampan.api import kinds
from sampan.api.objects import Object
from sampan.client.cache import Cache
from tests.agent.pods_bed import Bed, api, pod, until
from tests.agent.real_node import IMAGE, needs_node, node, settle  # noqa: F401 - a fixture

pytestmark = needs_node
SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def b(node: AgentConfig) -> AsyncIterator[Bed]:  # noqa: F811
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(api())
        runtime = await stack.enter_async_context(open_runtime(node.containerd_socket))
        neighbours = Cache(client, NEIGHBOURS)
        config = AgentConfig(**{**_fields(node), "node_name": "n1"})
        pods = Pods(config, client, runtime, neighbours)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(neighbours.run()), group.create_task(pods.run())]
            bed = Bed(client, runtime, node.data_dir)  # type: ignore[arg-type]
            yield bed
            await remove_all(bed)
            for task in tasks:
                task.cancel()
    await settle(node)


def _fields(config: AgentConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__struct_fields__}


async def remove_all(b: Bed) -> None:
    for found in (await b.client.list(kinds.PODS)).items:
        meta = found["metadata"]
        await b.client.delete(kinds.PODS, meta["name"], "default", grace_seconds=1)

    async def nothing_left() -> bool:
        return not (await b.client.list(kinds.PODS)).items and not await b.runtime.sandboxes()

    await until(nothing_left)


def real(name: str = "web", *command: str, **more: Any) -> Object:
    return pod(name, IMAGE, command=list(command) or SLEEP, **more)


async def test_a_pod_runs_restarts_and_goes(b: Bed) -> None:
    await b.create(real())
    await until(b.is_ready)
    main = await b.container()
    assert main["imageID"]
    run = main["containerID"].removeprefix("containerd://")
    await b.runtime.exec(run, ["sh", "-c", "kill -9 1; kill 1"], 5)
    await until(lambda: restarted(b))
    await until(b.is_ready)
    await b.client.delete(kinds.PODS, "web", "default", grace_seconds=5)
    await until(b.gone)


async def restarted(b: Bed) -> bool:
    return bool((await b.container()).get("restartCount"))


async def test_a_program_that_does_not_exist_is_named(b: Bed) -> None:
    await b.create(real("typo", "/no/such/program"))

    async def told() -> bool:
        return "/no/such/program" in str(await b.container("typo"))

    await until(told)
    await until(lambda: is_in(b, "typo", "waiting CrashLoopBackOff"))
    assert "/no/such/program" in str((await b.container("typo"))["lastState"])


async def is_in(b: Bed, name: str, state: str) -> bool:
    return await b.state(name) == state


async def test_an_image_that_no_registry_has_is_told_with_the_registrys_words(b: Bed) -> None:
    lost = real("lost")
    lost["spec"]["containers"][0]["image"] = "127.0.0.1:1/no/such:1"
    await b.create(lost)
    await until(lambda: is_in(b, "lost", "waiting ErrImagePull"))
    message = (await b.container("lost"))["state"]["waiting"]["message"]
    assert "127.0.0.1:1/no/such:1" in message
    assert "connection refused" in message


async def test_a_container_that_eats_too_much_is_reported_as_killed_for_memory(b: Bed) -> None:
    limits = {"limits": {"memory": "32Mi", "cpu": "200m"}}
    hungry = real("hungry", "sh", "-c", "head -c 200m /dev/zero | tail", resources=limits)
    hungry["spec"]["restartPolicy"] = "Never"
    await b.create(hungry)
    await until(lambda: is_in(b, "hungry", "terminated OOMKilled"))
    assert (await b.get("hungry"))["status"]["phase"] == "Failed"


async def test_what_ends_at_once_is_not_missed(b: Bed) -> None:
    for number in range(8):
        quick = real(f"quick-{number}", "true")
        quick["spec"]["restartPolicy"] = "Never"
        await b.create(quick)
    for number in range(8):
        await until(partial(is_in, b, f"quick-{number}", "terminated Completed"), within=10)


async def test_probes_files_and_environment_reach_a_real_container(b: Bed) -> None:
    await b.client.create(
        kinds.CONFIGMAPS,
        {"metadata": {"name": "settings", "namespace": "default"}, "data": {"colour": "teal"}},
    )
    script = (
        "mkdir /www; env > /www/env; cat /etc/hosts /etc/resolv.conf > /www/net; id > /www/id;"
        " cp /etc/settings/colour /www/; exec httpd -f -p 8080 -h /www"
    )
    served = real(
        "served", "sh", "-c", script,
        env=[{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        ports=[{"containerPort": 8080, "name": "http"}],
        readinessProbe={"httpGet": {"path": "/colour", "port": "http"}, "periodSeconds": 10},
        livenessProbe={"tcpSocket": {"port": 8080}},
        startupProbe={"exec": {"command": ["test", "-e", "/www/colour"]}},
        volumeMounts=[{"name": "settings", "mountPath": "/etc/settings"}],
        securityContext={"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}},
        spec={
            "volumes": [{"name": "settings", "configMap": {"name": "settings"}}],
            "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["elsewhere"]}],
        },
    )  # fmt: skip
    await b.create(served)
    await until(lambda: b.is_ready("served"), within=8)
    ip = (await b.get("served"))["status"]["podIP"]
    run = (await b.container("served"))["containerID"].removeprefix("containerd://")

    async def read(path: str) -> str:
        return (await b.runtime.exec(run, ["cat", path], 5)).output.decode()

    assert await read("/www/colour") == "teal"
    assert f"POD={ip}\n" in await read("/www/env")
    net = await read("/www/net")
    assert f"{ip}\tserved\n" in net
    assert "192.0.2.9\telsewhere\n" in net
    assert "nameserver 10.43.0.10\n" in net
    assert "search default.svc.cluster.local svc.cluster.local cluster.local" in net
    assert "Seccomp:\t2" in await read("/proc/1/status")


async def test_an_agent_that_starts_again_leaves_what_runs_alone(
    b: Bed,
    node: AgentConfig,  # noqa: F811
) -> None:
    await b.create(real("stays"))
    await until(lambda: b.is_ready("stays"))
    before = await b.container("stays")
    async with open_runtime(node.containerd_socket) as runtime:
        neighbours = Cache(b.client, NEIGHBOURS)
        config = AgentConfig(**{**_fields(node), "node_name": "n1"})
        second = Pods(config, b.client, runtime, neighbours)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(neighbours.run()), group.create_task(second.run())]

            async def taken_up() -> bool:
                return bool(list(second.live()))

            await until(taken_up)
            await b.create(real("later"))
            await until(lambda: b.is_ready("later"))
            for task in tasks:
                task.cancel()
    assert await b.container("stays") == before


async def test_an_unknown_container_is_missing(b: Bed) -> None:
    with pytest.raises(RuntimeFailure, match="not found"):
        await b.runtime.container("0" * 64)
