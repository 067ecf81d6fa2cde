"""Whatever is set up, however oddly: what follows is taken, or refused with an error of the API."""

from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings

from sampan.api import kinds
from sampan.api.errors import ApiError
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.interface import Place
from tests.apiserver.admitting import ADMITTING
from tests.apiserver.support import call, config_map, deployment, started
from tests.apiserver.test_admission_limits import claim, sized
from tests.apiserver.test_any_input import mangled

_OBJECTS = [
    (kinds.CONFIGMAPS, config_map("c", a="1")),
    (kinds.PODS, sized({"cpu": "1"}, {"cpu": "2", "memory": "1Mi"}, priorityClassName="")),
    (kinds.DEPLOYMENTS, deployment()),
    (kinds.PERSISTENT_VOLUME_CLAIMS, claim("d", "1Gi")),
]


async def follow(kind: Kind, broken: Any) -> None:
    api = await started()
    for other, obj in ADMITTING:
        setup = broken if other == kind else obj
        place = Place(other, "default" if other.namespaced else "")
        if other == kinds.NAMESPACES and isinstance(setup, dict):
            with suppress(ApiError):
                await api.patch(other, "default", setup)
            continue
        with suppress(ApiError):
            await api.registry.create(place, setup, call())
    for other, obj in _OBJECTS:
        name = obj["metadata"]["name"]
        with suppress(ApiError):
            await api.create(other, obj)
        with suppress(ApiError):
            await api.patch(other, name, {"metadata": {"labels": {"x": "y"}}})
        with suppress(ApiError):
            await api.delete(other, name)


@pytest.mark.parametrize(("kind", "obj"), ADMITTING, ids=[kind.kind for kind, _ in ADMITTING])
def test_odd_setups_break_nothing_else(kind: Kind, obj: Object) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mangled(obj))
    def check(broken: Any) -> None:
        anyio.run(follow, kind, broken)

    check()


def test_the_samples_are_sound_as_they_are() -> None:
    async def create_all() -> None:
        api = await started()
        for kind, obj in ADMITTING:
            if kind != kinds.NAMESPACES:
                await api.create(kind, obj)

    anyio.run(create_all)
