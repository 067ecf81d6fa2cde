"""Default classes, and what a RuntimeClass adds to a Pod."""

import pytest

from sampan.api import kinds
from sampan.api.errors import Forbidden
from sampan.api.objects import Object
from sampan.apiserver.admission import (
    INGRESS_CLASSES,
    INGRESSES,
    RUNTIME_CLASSES,
    STORAGE_CLASSES,
)
from sampan.apiserver.admission.classes import INGRESS_DEFAULT, STORAGE_DEFAULT
from tests.apiserver.support import Api, pod
from tests.apiserver.test_admission_limits import claim


def storage_class(name: str, default: str = "true") -> Object:
    meta = {"name": name, "annotations": {STORAGE_DEFAULT: default}}
    return {"metadata": meta, "provisioner": "x"}


async def made_claim(api: Api, **spec: str) -> Object:
    asked = claim("c", "1Gi")
    asked["spec"].update(spec)
    made = await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, asked, dry_run=True)
    found: Object = made["spec"]
    return found


async def test_a_claim_gets_the_newest_default_class_unless_it_names_one(api: Api) -> None:
    for name, default in (("old", "true"), ("new", "true"), ("never", "false")):
        api.clock.pass_(60)
        await api.create(STORAGE_CLASSES, storage_class(name, default))
    assert (await made_claim(api))["storageClassName"] == "new"
    assert (await made_claim(api, storageClassName=""))["storageClassName"] == ""
    assert (await made_claim(api, storageClassName="old"))["storageClassName"] == "old"
    for name in await api.names(STORAGE_CLASSES):
        await api.delete(STORAGE_CLASSES, name)
    assert "storageClassName" not in await made_claim(api)


def ingress() -> Object:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    return {"metadata": {"name": "web"}, "spec": {"defaultBackend": backend}}


async def test_an_ingress_gets_the_one_default_class(api: Api) -> None:
    def class_(name: str) -> Object:
        meta = {"name": name, "annotations": {INGRESS_DEFAULT: "true"}}
        return {"metadata": meta, "spec": {"controller": "x.io/y"}}

    await api.create(INGRESS_CLASSES, class_("a"))
    made = await api.create(INGRESSES, ingress())
    assert made["spec"]["ingressClassName"] == "a"
    await api.create(INGRESS_CLASSES, class_("b"))
    with pytest.raises(Forbidden, match="2 default IngressClasses were found, only 1 allowed"):
        await api.create(INGRESSES, ingress())


RUNTIME = {
    "metadata": {"name": "vm"},
    "handler": "vm",
    "overhead": {"podFixed": {"cpu": "250m"}},
    "scheduling": {
        "nodeSelector": {"vm": "yes"},
        "tolerations": [{"key": "vm", "operator": "Exists"}],
    },
}


async def test_a_runtime_class_adds_its_overhead_and_its_nodes(api: Api) -> None:
    await api.create(RUNTIME_CLASSES, RUNTIME)
    spec = (await api.create(kinds.PODS, pod(runtimeClassName="vm", nodeSelector={"a": "b"})))[
        "spec"
    ]
    assert spec["overhead"] == {"cpu": "250m"}
    assert spec["nodeSelector"] == {"a": "b", "vm": "yes"}
    assert spec["tolerations"] == [{"key": "vm", "operator": "Exists"}]


async def test_what_contradicts_a_runtime_class_is_refused(api: Api) -> None:
    await api.create(RUNTIME_CLASSES, RUNTIME)
    with pytest.raises(Forbidden, match=r"conflict: runtimeClass\.scheduling\.nodeSelector"):
        await api.create(kinds.PODS, pod(runtimeClassName="vm", nodeSelector={"vm": "no"}))
    with pytest.raises(Forbidden, match="Pod's Overhead doesn't match"):
        await api.create(kinds.PODS, pod(runtimeClassName="vm", overhead={"cpu": "1"}))
    with pytest.raises(Forbidden, match='RuntimeClass "ghost" not found'):
        await api.create(kinds.PODS, pod(runtimeClassName="ghost"))
