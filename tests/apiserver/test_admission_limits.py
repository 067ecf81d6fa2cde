"""LimitRanges: defaults, and each bound in Kubernetes' words."""

from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Forbidden, Invalid
from sampan.api.objects import Object
from sampan.apiserver.admission import LIMIT_RANGES
from sampan.apiserver.admission.limits import ANNOTATION
from tests.apiserver.support import Api, pod


def limit_range(**item: Any) -> Object:
    item.setdefault("type", "Container")
    return {"metadata": {"name": "limits"}, "spec": {"limits": [item]}}


def sized(requests: Object | None = None, limits: Object | None = None, **spec: Any) -> Object:
    made = pod(**spec)
    resources = {"requests": requests, "limits": limits}
    made["spec"]["containers"][0]["resources"] = {k: v for k, v in resources.items() if v}
    return made


def resources(made: Object) -> Object:
    found: Object = made["spec"]["containers"][0]["resources"]
    return found


async def test_who_says_nothing_gets_the_defaults_and_a_note_of_them(api: Api) -> None:
    wanted = limit_range(default={"cpu": "2"}, defaultRequest={"cpu": "1", "memory": "1Gi"})
    await api.create(LIMIT_RANGES, wanted)
    made = await api.create(kinds.PODS, pod())
    assert resources(made) == {"limits": {"cpu": "2"}, "requests": {"cpu": "1", "memory": "1Gi"}}
    assert made["metadata"]["annotations"][ANNOTATION] == (
        "LimitRanger plugin set: cpu, memory request for container main; "
        "cpu limit for container main"
    )


async def test_what_a_container_says_stays(api: Api) -> None:
    await api.create(LIMIT_RANGES, limit_range(default={"cpu": "2"}))
    made = await api.create(kinds.PODS, sized(limits={"cpu": "3"}))
    assert resources(made) == {"limits": {"cpu": "3"}, "requests": {"cpu": "3"}}
    assert "annotations" not in made["metadata"]


async def test_defaults_of_a_range_follow_from_its_bounds(api: Api) -> None:
    await api.create(LIMIT_RANGES, limit_range(max={"cpu": "2"}, min={"memory": "1Mi"}))
    [item] = (await api.get(LIMIT_RANGES, "limits"))["spec"]["limits"]
    assert item["default"] == {"cpu": "2"}
    assert item["defaultRequest"] == {"cpu": "2", "memory": "1Mi"}


BOUNDS = [
    ({"min": {"cpu": "100m"}}, {"cpu": "50m"}, None,
     "minimum cpu usage per Container is 100m, but request is 50m"),
    ({"max": {"memory": "1Gi"}}, {"memory": "1Gi"}, {"memory": "2Gi"},
     "maximum memory usage per Container is 1Gi, but limit is 2Gi"),
    ({"type": "Pod", "min": {"cpu": "1"}}, {"cpu": "500m"}, None,
     "minimum cpu usage per Pod is 1, but request is 500m"),
    ({"type": "Pod", "max": {"cpu": "1"}}, {"cpu": "500m"}, None,
     "maximum cpu usage per Pod is 1.  No limit is specified"),
    ({"type": "Pod", "min": {"cpu": "1"}}, None, None,
     "minimum cpu usage per Pod is 1.  No request is specified"),
    ({"maxLimitRequestRatio": {"cpu": "2"}}, {"cpu": "1"}, {"cpu": "3"},
     "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
    ({"maxLimitRequestRatio": {"cpu": "2"}}, None, None,
     ("cpu max limit to request ratio per Container is 2, but no request is specified or "
     "request is 0")),
]  # fmt: skip


@pytest.mark.parametrize(("item", "requests", "limits", "why"), BOUNDS)
async def test_each_bound_is_told_when_it_is_broken(
    api: Api, item: Object, requests: Object | None, limits: Object | None, why: str
) -> None:
    await api.create(LIMIT_RANGES, limit_range(**item))
    with pytest.raises(Forbidden) as refused:
        await api.create(kinds.PODS, sized(requests, limits))
    assert refused.value.message == f'pods "web" is forbidden: {why}'


async def test_several_broken_bounds_are_told_at_once(api: Api) -> None:
    await api.create(LIMIT_RANGES, limit_range(max={"cpu": "1", "memory": "1Mi"}))
    with pytest.raises(Forbidden, match=r"forbidden: \[maximum cpu .*, maximum memory .*\]"):
        await api.create(kinds.PODS, sized(limits={"cpu": "2", "memory": "2Mi"}))


async def test_init_containers_count_for_the_pod_by_the_largest(api: Api) -> None:
    await api.create(LIMIT_RANGES, limit_range(type="Pod", max={"cpu": "2"}))
    big = {"name": "init", "image": "x", "resources": {"limits": {"cpu": "3"}}}
    with pytest.raises(Forbidden, match="maximum cpu usage per Pod is 2, but limit is 3"):
        await api.create(kinds.PODS, sized(limits={"cpu": "1"}, initContainers=[big]))
    big["resources"] = {"limits": {"cpu": "2"}}
    await api.create(kinds.PODS, sized(limits={"cpu": "1"}, initContainers=[big]))


WRONG = [
    ({"min": {"cpu": "x"}}, "spec.limits[0].min[cpu]", "quantities must match"),
    ({"min": {"cpu": "2"}, "max": {"cpu": "1"}}, "spec.limits[0].min[cpu]",
     "min value 2 is greater than max value 1"),
    ({"type": "Pod", "default": {"cpu": "1"}}, "spec.limits[0].default",
     "may not be specified when `type` is 'Pod'"),
    ({"type": "PersistentVolumeClaim"}, "spec.limits[0].limits", "either minimum or maximum"),
    ({"maxLimitRequestRatio": {"cpu": "500m"}}, "spec.limits[0].maxLimitRequestRatio[cpu]",
     "ratio 500m is less than 1"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "path", "why"), WRONG)
async def test_a_range_that_contradicts_itself_is_refused(
    api: Api, item: Object, path: str, why: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await api.create(LIMIT_RANGES, limit_range(**item))
    assert any(c.field == path and why in c.message for c in refused.value.causes)


def claim(name: str, storage: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
    return {"metadata": {"name": name}, "spec": spec}


async def test_a_claims_size_has_bounds_when_made_and_when_it_grows(api: Api) -> None:
    bounds = limit_range(
        type="PersistentVolumeClaim", min={"storage": "1Gi"}, max={"storage": "2Gi"}
    )
    await api.create(LIMIT_RANGES, bounds)
    told = "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"
    with pytest.raises(Forbidden, match=told):
        await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, claim("small", "512Mi"))
    await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, claim("fit", "2Gi"))
    larger = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    with pytest.raises(Forbidden, match=r"maximum storage usage .* is 2Gi, but request is 3Gi"):
        await api.patch(kinds.PERSISTENT_VOLUME_CLAIMS, "fit", larger)
