"""Credentials, and images remembered."""

from base64 import b64encode
from typing import Any

import orjson
import pytest

from sampan.agent.pulls import Images, credentials
from sampan.agent.runtime import RuntimeFailure
from sampan.agent.spec import ContainerSpec
from sampan.testing.clock import VirtualTimeLoop
from sampan.testing.runtime import Behaviour, FakeRuntime


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def secret(auths: dict[str, Any], key: str = ".dockerconfigjson") -> dict[str, Any]:
    content: Any = {"auths": auths} if key.endswith("json") else auths
    return {"data": {key: b64encode(orjson.dumps(content)).decode()}}


ME = {"username": "me", "password": "p"}


@pytest.mark.parametrize(
    ("image", "server", "fits"),
    [
        ("reg.example/app", "reg.example", True),
        ("reg.example/app", "https://reg.example/v2/", True),
        ("reg.example:5000/app", "reg.example", False),
        ("app", "https://index.docker.io/v1/", True),
        ("app", "docker.io", True),
        ("team/app", "reg.example", False),
    ],
)
def test_credentials_are_for_their_registry_only(image: str, server: str, fits: bool) -> None:  # noqa: FBT001 - a table's column
    found = credentials(image, [secret({server: ME})])
    assert [auth.username for auth in found] == (["me"] if fits else [])


def test_a_joined_pair_and_the_older_form_are_understood() -> None:
    joined = {"auth": b64encode(b"you:p:q").decode()}
    [auth] = credentials("r.io/app", [secret({"r.io": joined}, ".dockercfg")])
    assert (auth.username, auth.password) == ("you", "p:q")


def test_a_secret_that_is_no_json_is_passed_over() -> None:
    broken = {"data": {".dockerconfigjson": b64encode(b"{").decode()}}
    assert credentials("app", [broken]) == []


async def test_the_next_credentials_are_tried_when_the_first_are_refused() -> None:
    runtime = FakeRuntime({}, registry={"r.io/app": Behaviour()})
    auths = credentials("r.io/app", [secret({"r.io": ME}), secret({"r.io": ME})])
    runtime.fails["pull"] = "unauthorized"
    with pytest.raises(RuntimeFailure, match="unauthorized"):
        await Images(runtime).pull("r.io/app", auths)
    assert len(runtime.pulled_with) == 2


async def test_an_image_that_was_found_is_not_asked_for_again() -> None:
    runtime = FakeRuntime({"app": Behaviour()})
    images = Images(runtime)
    assert await images.find("app") == await images.find("docker.io/library/app:latest")
    assert runtime.calls == [("image", "docker.io/library/app:latest")]
    images.forget("app")
    await images.find("app")
    assert len(runtime.calls) == 2


@pytest.mark.parametrize(
    ("image", "asked", "policy"),
    [
        ("app", "", "Always"),
        ("app:latest", "", "Always"),
        ("app:1", "", "IfNotPresent"),
        ("reg:5000/app", "", "Always"),
        ("reg:5000/app@sha256:1", "", "IfNotPresent"),
        ("app", "Never", "Never"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, asked: str, policy: str) -> None:
    assert ContainerSpec(name="c", image=image, image_pull_policy=asked).pull_policy == policy
