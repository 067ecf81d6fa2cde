"""`sampan up` against the real API and controllers, on fake machines, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from textwrap import dedent

import pytest

from sampan.api import kinds
from sampan.api.errors import Conflict
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.cli.applying import NotOurs, PortTaken, apply, difference, gone, remembering
from sampan.cli.rollout import ServiceState
from sampan.cli.up import wait
from sampan.compose.objects import convert
from sampan.compose.project import load
from sampan.testing.clock import VirtualTimeLoop
from sampan.testing.cluster import Cluster, cluster
from sampan.testing.runtime import Behaviour

IMAGES = {
    "app": Behaviour(),
    "crash": Behaviour(runs_for=0.2, exit_code=4),
    "late": Behaviour(runs_for=5.0, exit_code=1),
}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
async def running(anyio_backend: object, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path / "cluster", nodes=2, images=IMAGES) as made:
        yield made


def stack(directory: Path, text: str, name: str = "shop") -> list[Object]:
    file = directory / "compose.yaml"
    file.write_text(dedent(text))
    return convert(load([file], name=name, env={}))


async def names(running: Cluster, kind: Kind) -> set[str]:
    listing = await running.client.list(kind, "shop", labels="sampan.io/stack")
    return {obj["metadata"]["name"] for obj in listing.items}


async def revisions(running: Cluster) -> dict[str, str]:
    kinds_ = (kinds.DEPLOYMENTS, kinds.SERVICES, kinds.CONFIGMAPS, kinds.PODS)
    return {
        f"{kind.plural}/{obj['metadata']['name']}": obj["metadata"]["resourceVersion"]
        for kind in kinds_
        for obj in (await running.client.list(kind, "shop")).items
    }


async def until_up(
    running: Cluster, *services: str, seconds: float = 30, settling: float = 0
) -> tuple[Sequence[ServiceState], list[str]]:
    """The last state, and everything that was shown on the way to it."""
    shown: list[str] = []

    def show(states: Sequence[ServiceState]) -> None:
        for state in states:
            if (line := f"{state.name}: {state}") not in shown:
                shown.append(line)

    states = await wait(running.client, "shop", services, show, seconds=seconds, settling=settling)
    return states, shown


async def test_a_file_comes_up_and_applying_it_again_changes_nothing(
    running: Cluster, tmp_path: Path
) -> None:
    text = """
    services:
      web: {image: app, ports: ["8080:80"], deploy: {replicas: 3}, configs: [page]}
      db: {image: app}
    configs: {page: {content: hello}}
    """
    objects = stack(tmp_path, text)
    await apply(running.client, objects)
    states, shown = await until_up(running, "web", "db")
    assert [(s.ready, s.wanted, s.done) for s in states] == [(3, 3, True), (1, 1, True)]
    assert shown[-1].endswith("ready")
    before = await revisions(running)
    await apply(running.client, objects)
    assert await revisions(running) == before


async def test_what_the_file_no_longer_names_goes(running: Cluster, tmp_path: Path) -> None:
    text = "services:\n  a: {image: app, environment: {X: 1}, hostname: h, ports: ['1:1']}\n"
    await apply(running.client, stack(tmp_path, text + "  b: {image: app}\n"))
    await until_up(running, "a", "b")
    await apply(running.client, stack(tmp_path, "services:\n  a: {image: app}\n"))
    await until_up(running, "a")
    assert await names(running, kinds.DEPLOYMENTS) == {"a"}
    assert await names(running, kinds.SERVICES) == {"a"}
    left = await running.client.get(kinds.DEPLOYMENTS, "a", "shop")
    spec = left["spec"]["template"]["spec"]
    assert "hostname" not in spec
    assert not spec["containers"][0].get("env")
    service = await running.client.get(kinds.SERVICES, "a", "shop")
    assert service["spec"]["clusterIP"] == "None"


async def test_what_others_have_set_beside_it_stays_and_the_files_own_values_win(
    running: Cluster, tmp_path: Path
) -> None:
    text = "services: {web: {image: app, deploy: {replicas: 2}}}"
    await apply(running.client, stack(tmp_path, text))
    theirs = {"metadata": {"annotations": {"team": "blue"}}, "spec": {"replicas": 5}}
    await running.client.patch(kinds.DEPLOYMENTS, "web", theirs, "shop")
    await apply(running.client, stack(tmp_path, text))
    found = await running.client.get(kinds.DEPLOYMENTS, "web", "shop")
    assert found["metadata"]["annotations"]["team"] == "blue"
    assert found["spec"]["replicas"] == 2


async def test_a_changed_config_rolls_the_service_and_the_old_one_stays_for_a_rollback(
    running: Cluster, tmp_path: Path
) -> None:
    text = "services: {{web: {{image: app, configs: [c]}}}}\nconfigs: {{c: {{content: '{}'}}}}\n"
    await apply(running.client, stack(tmp_path, text.format("one")))
    await until_up(running, "web")
    [first] = await running.pods(namespace="shop")
    await apply(running.client, stack(tmp_path, text.format("two")))
    [state], _ = await until_up(running, "web")
    assert state.done
    alive = [
        p for p in await running.pods(namespace="shop") if "deletionTimestamp" not in p["metadata"]
    ]
    assert first["metadata"]["uid"] not in {p["metadata"]["uid"] for p in alive}
    assert len(await names(running, kinds.CONFIGMAPS)) == 2


async def test_a_config_that_nobody_can_roll_back_to_goes(running: Cluster, tmp_path: Path) -> None:
    text = "services: {a: {image: app, configs: [c]}, b: {image: app}}\nconfigs: {c: {content: x}}"
    await apply(running.client, stack(tmp_path, text))
    await until_up(running, "a", "b")
    only = stack(tmp_path, "services: {b: {image: app}}")
    await apply(running.client, only)

    async def no_sets() -> bool:
        sets = (await running.client.list(kinds.REPLICA_SETS, "shop")).items
        return {s["metadata"]["labels"]["sampan.io/service"] for s in sets} == {"b"}

    await running.until(no_sets)
    await apply(running.client, only)
    assert await names(running, kinds.CONFIGMAPS) == set()


async def test_a_crash_without_a_health_check_is_noticed_while_the_stack_settles(
    running: Cluster, tmp_path: Path
) -> None:
    await apply(running.client, stack(tmp_path, "services: {web: {image: crash}}"))
    [state], _ = await until_up(running, "web", seconds=8, settling=1)
    assert (state.done, state.restarted) == (False, True)
    assert "ended with exit code 4" in state.why
    assert state.failing.startswith("web-")


async def test_what_ends_after_it_was_up_does_not_make_up_fail(
    running: Cluster, tmp_path: Path
) -> None:
    await apply(running.client, stack(tmp_path, "services: {web: {image: late}}"))
    [state], _ = await until_up(running, "web", seconds=20, settling=1)
    assert state.done


async def test_an_image_that_nobody_has_is_the_reason(running: Cluster, tmp_path: Path) -> None:
    await apply(running.client, stack(tmp_path, "services: {web: {image: no/such:1}}"))
    [state], _ = await until_up(running, "web", seconds=20)
    assert not state.done
    assert "image pull failed" in state.why
    assert "no/such:1" in state.why


async def test_waiting_for_another_service_is_the_reason(running: Cluster, tmp_path: Path) -> None:
    text = """
    services:
      web: {image: app, depends_on: {db: {condition: service_healthy}}}
      db: {image: no/such, healthcheck: {test: "true"}}
    """
    await apply(running.client, stack(tmp_path, text))
    states, _ = await until_up(running, "web", "db", seconds=10)
    assert "db" in states[0].why
    assert not any(state.done for state in states)


async def test_a_stack_that_no_node_can_hold_says_so(running: Cluster, tmp_path: Path) -> None:
    text = "services: {web: {image: app, deploy: {resources: {reservations: {cpus: 5000}}}}}"
    await apply(running.client, stack(tmp_path, text))
    [state], _ = await until_up(running, "web", seconds=10)
    assert "no node takes it" in state.why


async def test_a_namespace_that_is_no_stack_is_left_alone(running: Cluster, tmp_path: Path) -> None:
    await running.client.create(kinds.NAMESPACES, {"metadata": {"name": "shop"}})
    with pytest.raises(NotOurs, match="shop"):
        await apply(running.client, stack(tmp_path, "services: {web: {image: app}}"))
    assert (await running.client.list(kinds.DEPLOYMENTS, "shop")).items == []


async def test_a_port_that_another_application_publishes_is_taken(
    running: Cluster, tmp_path: Path
) -> None:
    text = "services: {web: {image: app, ports: ['80:80', '81:81/udp']}}"
    await apply(running.client, stack(tmp_path, text, "first"))
    await apply(running.client, stack(tmp_path, text, "first"))
    with pytest.raises(PortTaken, match="port 80/tcp of web-published is taken: first"):
        await apply(running.client, stack(tmp_path, text, "second"))
    assert "second" not in [
        n["metadata"]["name"] for n in (await running.client.list(kinds.NAMESPACES)).items
    ]
    other = "services: {web: {image: app, ports: ['80:80/udp']}}"
    await apply(running.client, stack(tmp_path, other, "third"))


async def test_an_object_of_somebody_else_is_not_taken_over(
    running: Cluster, tmp_path: Path
) -> None:
    objects = stack(tmp_path, "services: {web: {image: app}}")
    await apply(running.client, objects[:1])
    mine = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"port": 1}]}}
    await running.client.create(kinds.SERVICES, mine)
    with pytest.raises(ExceptionGroup) as error:
        await apply(running.client, objects)
    assert error.group_contains(Conflict, match="service web exists in the namespace shop")


async def test_a_stack_that_is_going_is_waited_for_and_comes_anew(
    running: Cluster, tmp_path: Path
) -> None:
    objects = stack(tmp_path, "services: {web: {image: app}}")
    await apply(running.client, objects)
    await until_up(running, "web")
    first = await running.client.get(kinds.NAMESPACES, "shop")
    await running.client.delete(kinds.NAMESPACES, "shop")
    async with asyncio.timeout(60):
        await apply(running.client, objects)
    second = await running.client.get(kinds.NAMESPACES, "shop")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    [state], _ = await until_up(running, "web")
    assert state.done


async def test_waiting_for_what_is_gone_already_ends_at_once(running: Cluster) -> None:
    async with asyncio.timeout(1):
        await gone(running.client, "never-there")


def deployment(**spec: object) -> Object:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


def test_the_difference_is_what_changed_and_nothing_that_the_server_filled_in() -> None:
    wanted = deployment(replicas=2, ports=[{"port": 1}], labels={"a": "1"})
    live = remembering(wanted)
    live["spec"] = {
        "replicas": 2,
        "ports": [{"port": 1, "nodePort": 3}],
        "labels": {"a": "1", "b": "2"},
        "more": True,
    }
    assert difference(wanted, live) == {}
    changed = deployment(replicas=3, ports=[{"port": 1}], labels={})
    patch = difference(changed, live)
    assert patch["spec"] == {"replicas": 3, "labels": {"a": None}}
    assert list(patch["metadata"]) == ["annotations"]


def test_a_list_that_lost_something_inside_is_sent_again() -> None:
    live = remembering(deployment(containers=[{"image": "x", "probe": 1}]))
    patch = difference(deployment(containers=[{"image": "x"}]), live)
    assert patch["spec"] == {"containers": [{"image": "x"}]}


def test_a_list_that_drifted_is_sent_again() -> None:
    wanted = deployment(containers=[{"image": "x"}])
    live = {**remembering(wanted), "spec": {"containers": [{"image": "y"}]}}
    assert difference(wanted, live)["spec"] == {"containers": [{"image": "x"}]}
