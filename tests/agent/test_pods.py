"""A node's Pods from the API to the runtime and back, in virtual time."""

import asyncio
from base64 import b64encode
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from sampan.agent.runtime import Container, ExecResult
from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.local import LocalClient
from sampan.testing.clock import VirtualTimeLoop
from sampan.testing.runtime import Behaviour, FakeRuntime
from tests.agent.pods_bed import IMAGES, Bed, agent, api, bed, pod, until


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def now() -> float:
    return asyncio.get_running_loop().time()


async def is_in(b: Bed, state: str, name: str = "web") -> bool:
    return await b.state(name) == state


async def test_a_pod_runs_and_says_so(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod())
        await until(b.is_ready)
        status = (await b.get())["status"]
        assert status["phase"] == "Running"
        assert status["podIP"].startswith("10.42.0.")
        assert status["hostIP"] == "192.0.2.7"
        [main] = status["containerStatuses"]
        assert (main["ready"], main["started"], main["restartCount"]) == (True, True, 0)
        assert main["containerID"].startswith("containerd://")
        assert {c["type"]: c["status"] for c in status["conditions"]} == {
            "PodScheduled": "True",
            "PodReadyToStartContainers": "True",
            "Initialized": "True",
            "ContainersReady": "True",
            "Ready": "True",
        }


async def test_a_pod_that_starts_quickly_costs_one_status_write(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        made = await b.create(pod())
        await until(b.is_ready)
        first = int(made["metadata"]["resourceVersion"])
        changes = b.client.watch(kinds.PODS, "default", since=str(first))
        event = await anext(changes)
        await changes.aclose()
        assert event.object["status"]["phase"] == "Running"


async def test_a_pod_that_starts_slowly_says_that_it_is_being_made(tmp_path: Path) -> None:
    async with bed(tmp_path, FakeRuntime(IMAGES, takes=2)) as b:
        await b.create(pod())
        await until(lambda: is_in(b, "waiting ContainerCreating"))
        await until(b.is_ready)


async def test_the_runtime_gets_what_the_spec_says(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(command=["run", "$(A)"], env=[{"name": "A", "value": "x"}]))
        await until(b.is_ready)
        [run] = b.runtime.runs()
        config = b.runtime.config(run.id)
        assert config.command == ("run", "x")
        assert config.env["A"] == "x"
        assert run.log_path.endswith(f"/logs/default_web_{run.uid}/main/0.log")
        assert {m.container_path for m in config.mounts} == {"/etc/hosts", "/dev/termination-log"}
        assert {reason for reason, _ in await b.events()} == {"Pulled", "Created", "Started"}


async def test_a_crash_is_followed_by_one_restart_at_once_and_then_by_longer_pauses(
    tmp_path: Path,
) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(image="crash"))
        await until(lambda: is_in(b, "waiting CrashLoopBackOff"))
        assert (await b.container())["restartCount"] == 1
        assert (await b.container())["lastState"]["terminated"]["exitCode"] == 3

        async def restarted(times: int) -> bool:
            return int((await b.container())["restartCount"]) >= times

        await until(lambda: restarted(6), within=400)
        before, after = (c.started_at.timestamp() for c in b.runtime.runs() if c.started_at)
        assert round(after - before) == 1 + 160
        assert "BackOff" in [reason for reason, _ in await b.events()]


@pytest.mark.parametrize(
    ("policy", "image", "phase"),
    [
        ("Never", "done", "Succeeded"),
        ("Never", "crash", "Failed"),
        ("OnFailure", "done", "Succeeded"),
    ],
)
async def test_a_pod_that_has_ended_gives_its_address_back(
    tmp_path: Path, policy: str, image: str, phase: str
) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(image=image, spec={"restartPolicy": policy}))

        async def over() -> bool:
            sandboxes = await b.runtime.sandboxes()
            ended = ((await b.get()).get("status") or {}).get("phase") == phase
            return ended and not any(s.ready for s in sandboxes)

        await until(over)
        assert len(b.runtime.runs()) == 1


async def test_a_deleted_pod_is_stopped_and_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bed(tmp_path, FakeRuntime({"app": Behaviour(obeys_after=3)})) as b:
        await b.create(pod(spec={"volumes": [{"name": "v", "emptyDir": {}}]}))
        await until(b.is_ready)
        begun = now()
        await b.client.delete(kinds.PODS, "web", "default", grace_seconds=20)
        await until(b.gone)
        assert 3 <= now() - begun < 4

        async def clean() -> bool:
            left = [*(tmp_path / "data/volumes").iterdir(), *(tmp_path / "data/logs").iterdir()]
            return not left and not await b.runtime.sandboxes()

        await until(clean)
        assert caplog.records == []


async def test_a_stubborn_container_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with bed(tmp_path, FakeRuntime({"app": Behaviour(obeys_after=1000)})) as b:
        await b.create(pod())
        await until(b.is_ready)
        begun = now()
        await b.client.delete(kinds.PODS, "web", "default", grace_seconds=5)
        await until(b.gone)
        assert 5 <= now() - begun < 6


async def test_a_shorter_grace_cuts_a_longer_one_short(tmp_path: Path) -> None:
    async with bed(tmp_path, FakeRuntime({"app": Behaviour(obeys_after=1000)})) as b:
        await b.create(pod())
        await until(b.is_ready)
        await b.client.delete(kinds.PODS, "web", "default", grace_seconds=500)
        await asyncio.sleep(5)
        await b.client.delete(kinds.PODS, "web", "default", grace_seconds=2)
        await until(b.gone, within=4)


async def test_a_pod_deleted_by_force_is_stopped_all_the_same(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod())
        await until(b.is_ready)
        await b.client.delete(kinds.PODS, "web", "default", grace_seconds=0)

        async def clean() -> bool:
            return not await b.runtime.sandboxes()

        await until(clean)


async def test_a_successor_of_the_same_name_does_not_wait_for_what_was_forced_out(
    tmp_path: Path,
) -> None:
    async with bed(tmp_path, FakeRuntime({"app": Behaviour(obeys_after=1)})) as b:
        first = await b.create(pod())
        await until(b.is_ready)
        await b.client.delete(kinds.PODS, "web", "default", grace_seconds=0)
        second = await b.create(pod())
        assert first["metadata"]["uid"] != second["metadata"]["uid"]
        await until(b.is_ready)

        async def alone() -> bool:
            return [s.uid for s in await b.runtime.sandboxes()] == [second["metadata"]["uid"]]

        await until(alone)


async def test_init_containers_run_in_order(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        inits = [{"name": n, "image": "done", "imagePullPolicy": "Never"} for n in ("one", "two")]
        await b.create(pod(spec={"initContainers": inits}))
        await until(b.is_ready)
        one, two, main = b.runtime.runs()
        assert (one.name, two.name, main.name) == ("one", "two", "main")
        times = [one.finished_at, two.started_at, two.finished_at, main.started_at]
        assert times == sorted(time for time in times if time)


# Images


async def test_an_image_is_pulled_with_the_secrets_of_the_pod(tmp_path: Path) -> None:
    runtime = FakeRuntime({}, registry={"reg.example:5000/app:1": Behaviour()})
    async with bed(tmp_path, runtime) as b:
        entry = {"auth": b64encode(b"me:pass").decode()}
        config = orjson.dumps({"auths": {"reg.example:5000": entry, "other": entry}})
        await b.client.create(
            kinds.SECRETS,
            {
                "metadata": {"name": "reg", "namespace": "default"},
                "type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": b64encode(config).decode()},
            },
        )
        secrets = {"imagePullSecrets": [{"name": "reg"}]}
        await b.create(pod(image="reg.example:5000/app:1", spec=secrets))
        await until(b.is_ready)
        [auth] = runtime.pulled_with
        assert auth is not None
        assert (auth.username, auth.password) == ("me", "pass")
        assert {"Pulling", "Pulled"} <= {reason for reason, _ in await b.events()}


async def test_many_pods_that_want_an_image_cost_one_pull(tmp_path: Path) -> None:
    runtime = FakeRuntime({}, registry={"app:1": Behaviour()}, takes=0.01)
    async with bed(tmp_path, runtime) as b:
        for number in range(5):
            await b.create(pod(f"web-{number}", "app:1"))
        for number in range(5):
            await until(partial(b.is_ready, f"web-{number}"))
        assert len(runtime.pulled_with) == 1


async def test_an_unknown_image_is_told_with_the_registrys_words_and_backed_off(
    tmp_path: Path,
) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(image="no/such:1"))
        await until(lambda: is_in(b, "waiting ErrImagePull"))
        waiting = (await b.container())["state"]["waiting"]
        assert "docker.io/no/such:1: not found" in waiting["message"]
        begun = now()
        await until(lambda: is_in(b, "waiting ImagePullBackOff"))
        assert 9 < now() - begun < 11
        reasons = [reason for reason, _ in await b.events()]
        assert {"Pulling", "Failed", "BackOff"} <= set(reasons)


async def test_an_image_that_is_loaded_ends_the_waiting_for_it(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(image="mine:1"))
        await until(lambda: is_in(b, "waiting ErrImagePull"))
        b.runtime.load("mine:1", Behaviour())
        await until(b.is_ready, within=1)


async def test_without_its_registry_a_loaded_image_is_good_enough(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(imagePullPolicy="Always"))
        await until(b.is_ready)
        assert "FailedToPull" in [reason for reason, _ in await b.events()]


async def test_never_means_never(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(image="no/such:1", imagePullPolicy="Never"))
        await until(lambda: is_in(b, "waiting ErrImageNeverPull"))
        assert b.runtime.pulled_with == []


# What is missing, and what goes wrong


async def test_a_missing_config_map_is_named_and_its_coming_is_noticed(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(envFrom=[{"configMapRef": {"name": "settings"}}]))
        await until(lambda: is_in(b, "waiting CreateContainerConfigError"))
        message = (await b.container())["state"]["waiting"]["message"]
        assert message == 'configmap "settings" not found'
        settings = {"metadata": {"name": "settings", "namespace": "default"}, "data": {"A": "1"}}
        await b.client.create(kinds.CONFIGMAPS, settings)
        await until(b.is_ready, within=16)
        assert b.runtime.config(b.runtime.runs()[-1].id).env["A"] == "1"


async def test_a_missing_volume_source_is_named(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        volume = {"name": "v", "secret": {"secretName": "keys"}}
        await b.create(pod(spec={"volumes": [volume]}))

        async def told() -> Any:
            waiting = ((await b.container()).get("state") or {}).get("waiting") or {}
            return 'secret "keys" not found' in waiting.get("message", "")

        await until(told)
        assert "FailedMount" in [reason for reason, _ in await b.events()]


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    text = 'exec: "/no/such/program": no such file or directory'
    async with bed(tmp_path, FakeRuntime({"app": Behaviour(fails_to_start=text)})) as b:
        await b.create(pod())
        await until(lambda: is_in(b, "waiting CrashLoopBackOff"))
        last = (await b.container())["lastState"]["terminated"]
        assert (last["reason"], last["message"]) == ("StartError", text)
        assert ("Failed", f"Error: {text}") in await b.events()


async def test_a_sandbox_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        b.runtime.fails["run_sandbox"] = "no addresses left"
        await b.create(pod())

        async def told() -> Any:
            return any("no addresses left" in message for _, message in await b.events())

        await until(told)
        b.runtime.fails.clear()
        await until(b.is_ready)


async def test_a_container_must_not_run_as_root_when_that_is_asked(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(securityContext={"runAsNonRoot": True}))
        await until(lambda: is_in(b, "waiting CreateContainerConfigError"))
        assert "will run as root" in (await b.container())["state"]["waiting"]["message"]


async def test_a_dead_sandbox_is_replaced_once_it_is_noticed(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod())
        await until(b.is_ready)
        [sandbox] = await b.runtime.sandboxes()
        before = (await b.get())["status"]["podIP"]
        b.runtime.break_sandbox(sandbox.id)

        async def elsewhere() -> bool:
            return await b.is_ready() and (await b.get())["status"]["podIP"] != before

        await until(elsewhere, within=40)
        assert (await b.get())["status"]["podIPs"] == [{"ip": (await b.get())["status"]["podIP"]}]


# Probes and hooks


def healthy(_container: Container, _command: Any) -> ExecResult:
    return ExecResult(0, b"")


def sick(_container: Container, _command: Any) -> ExecResult:
    return ExecResult(1, b"it hurts")


def asking(**fields: Any) -> Object:
    return {"exec": {"command": ["ask"]}, **fields}


async def test_a_liveness_failure_restarts_the_container_and_says_why(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(livenessProbe=asking(periodSeconds=1, failureThreshold=2)))
        await until(b.is_ready)
        b.runtime.exec_answer = sick

        async def restarted() -> bool:
            return int((await b.container())["restartCount"]) == 1

        await until(restarted)
        b.runtime.exec_answer = healthy
        events = await b.events()
        assert ("Unhealthy", "Liveness probe failed: it hurts") in events
        why = "Container main failed liveness probe, will be restarted"
        assert ("Killing", why) in events


async def test_readiness_comes_and_goes_with_its_probe(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        b.runtime.exec_answer = sick
        await b.create(pod(readinessProbe=asking(periodSeconds=1, failureThreshold=1)))
        await until(lambda: is_in(b, "running"))
        assert not await b.is_ready()
        b.runtime.exec_answer = healthy
        begun = now()
        await until(b.is_ready)
        assert now() - begun < 0.5
        b.runtime.exec_answer = sick

        async def unready() -> bool:
            return not await b.is_ready()

        await until(unready, within=2)


async def test_nothing_else_is_probed_before_the_startup_probe_is_content(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        b.runtime.exec_answer = sick
        startup = asking(periodSeconds=1, failureThreshold=60)
        await b.create(pod(startupProbe=startup, livenessProbe=asking(failureThreshold=1)))
        await until(lambda: is_in(b, "running"))
        await asyncio.sleep(30)
        assert not (await b.container())["started"]
        assert (await b.container())["restartCount"] == 0
        b.runtime.exec_answer = healthy
        await until(b.is_ready)


async def test_a_pre_stop_hook_runs_within_the_grace(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(lifecycle={"preStop": {"sleep": {"seconds": 4}}}))
        await until(b.is_ready)
        begun = now()
        await b.client.delete(kinds.PODS, "web", "default", grace_seconds=20)
        await until(b.gone)
        assert 4 <= now() - begun < 5


# Waiting for Services


async def test_a_pod_waits_for_the_services_that_it_names(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        waiting = pod()
        waiting["metadata"]["annotations"] = {"sampan.io/after": "db=ready"}
        await b.create(waiting)
        await until(lambda: is_in(b, "waiting WaitingForServices"))
        piece: Object = {
            "metadata": {
                "name": "db-1",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "db"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.42.0.9"], "conditions": {"ready": False}}],
        }
        await b.client.create(kinds.ENDPOINT_SLICES, piece)

        async def told() -> bool:
            found = (await b.container())["state"]["waiting"].get("message")
            return bool(found == "waiting for db: 0 of 1 endpoints ready")

        await until(told)
        assert b.runtime.runs() == []
        ready = [{"addresses": ["10.42.0.9"], "conditions": {"ready": True}}]
        await b.client.patch(kinds.ENDPOINT_SLICES, "db-1", {"endpoints": ready}, "default")
        await until(b.is_ready, within=1)


async def test_traffic_goes_away_before_the_container_does(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod())
        await until(b.is_ready)
        ip = (await b.get())["status"]["podIP"]
        piece: Object = {
            "metadata": {"name": "web-1", "namespace": "default"},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True}}],
        }
        await b.client.create(kinds.ENDPOINT_SLICES, piece)
        await asyncio.sleep(1)
        await b.client.delete(kinds.PODS, "web", "default", grace_seconds=20)
        await asyncio.sleep(0.4)
        assert b.runtime.runs()[0].running
        leaving = [{"addresses": [ip], "conditions": {"ready": False, "terminating": True}}]
        await b.client.patch(kinds.ENDPOINT_SLICES, "web-1", {"endpoints": leaving}, "default")
        begun = now()
        await until(b.gone)
        assert 0.1 <= now() - begun < 0.5


# The agent itself


async def test_a_new_agent_takes_up_what_runs(tmp_path: Path) -> None:
    runtime = FakeRuntime(IMAGES)
    async with api() as client:
        b = Bed(client, runtime, tmp_path)
        async with agent(client, runtime, tmp_path):
            await b.create(pod(readinessProbe=asking()))
            await until(b.is_ready)
        before = await b.container()
        async with agent(client, runtime, tmp_path):
            await asyncio.sleep(60)
        assert await b.container() == before
        assert len(runtime.runs()) == 1


async def test_what_ended_while_no_agent_ran_is_started_again(tmp_path: Path) -> None:
    runtime = FakeRuntime(IMAGES)
    async with api() as client:
        b = Bed(client, runtime, tmp_path)
        async with agent(client, runtime, tmp_path):
            await b.create(pod())
            await until(b.is_ready)
        runtime.end(runtime.runs()[0].id, 7)
        async with agent(client, runtime, tmp_path):

            async def restarted() -> bool:
                return bool((await b.container())["restartCount"]) and await b.is_ready()

            await until(restarted)
            again = await b.container()
        assert again["lastState"]["terminated"]["exitCode"] == 7


async def test_what_runs_for_nobody_is_removed(tmp_path: Path) -> None:
    runtime = FakeRuntime(IMAGES)
    async with api() as client:
        b = Bed(client, runtime, tmp_path)
        async with agent(client, runtime, tmp_path):
            await b.create(pod())
            await until(b.is_ready)
        await client.delete(kinds.PODS, "web", "default", grace_seconds=0)
        async with agent(client, runtime, tmp_path):

            async def clean() -> bool:
                left = [*(tmp_path / "data/volumes").iterdir(), *(tmp_path / "data/logs").iterdir()]
                return not left and not await runtime.sandboxes()

            await until(clean)


async def test_a_config_map_that_changes_reaches_the_running_pod(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        settings = {"metadata": {"name": "s", "namespace": "default"}, "data": {"colour": "teal"}}
        await b.client.create(kinds.CONFIGMAPS, settings)
        volumes = [{"name": "v", "configMap": {"name": "s"}}]
        mounts = [{"name": "v", "mountPath": "/v"}]
        await b.create(pod(spec={"volumes": volumes}, volumeMounts=mounts))
        await until(b.is_ready)
        config = b.runtime.config(b.runtime.runs()[0].id)
        [place] = [m.host_path for m in config.mounts if m.container_path == "/v"]
        await b.client.patch(kinds.CONFIGMAPS, "s", {"data": {"colour": "red"}}, "default")

        async def changed() -> bool:
            return (Path(place) / "colour").read_text() == "red"

        await until(changed, within=60)


async def test_at_rest_the_agent_asks_the_runtime_only_for_its_lists(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod())
        await until(b.is_ready)
        await asyncio.sleep(5)
        b.runtime.calls.clear()
        await asyncio.sleep(60)
        assert {call for call, _ in b.runtime.calls} <= {"sandboxes", "containers"}
        assert len(b.runtime.calls) <= 4


class Unreliable(LocalClient):
    """A server that can be away."""

    def __init__(self, client: LocalClient) -> None:
        self.__dict__.update(client.__dict__)
        self.away = False

    def _check(self) -> None:
        if self.away:
            raise ServiceUnavailable("the server is away")

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        self._check()
        return await super().get(kind, name, namespace)

    async def create(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        self._check()
        return await super().create(kind, obj, subresource=subresource)

    async def patch(self, *args: Any, **more: Any) -> Object:
        self._check()
        return await super().patch(*args, **more)


async def test_while_the_server_is_away_containers_are_restarted_all_the_same(
    tmp_path: Path,
) -> None:
    runtime = FakeRuntime(IMAGES)
    async with api() as direct:
        client = Unreliable(direct)
        b = Bed(direct, runtime, tmp_path)
        settings = {"metadata": {"name": "s", "namespace": "default"}, "data": {"A": "1"}}
        await direct.create(kinds.CONFIGMAPS, settings)
        async with agent(client, runtime, tmp_path):
            await b.create(pod(envFrom=[{"configMapRef": {"name": "s"}}]))
            await until(b.is_ready)
            client.away = True
            runtime.end(runtime.runs()[0].id, 1)

            async def restarted() -> bool:
                return [run.running for run in runtime.runs()] == [False, True]

            await until(restarted)
            assert runtime.config(runtime.runs()[-1].id).env["A"] == "1"
            assert (await b.container())["restartCount"] == 0
            client.away = False

            async def told() -> bool:
                return bool((await b.container())["restartCount"] == 1 and await b.is_ready())

            await until(told)
