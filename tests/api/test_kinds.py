"""The kinds table agrees with the published schemas and with itself."""

import json
from importlib.resources import files

import pytest

from sampan.api.kinds import KINDS, Kind
from sampan.api.objects import Pod, Resource

DEFINITIONS = json.loads(
    next(
        path for path in files("kubernetes_validate").rglob("_definitions.json")  # type: ignore[attr-defined]
        if "1.37" in str(path)
    ).read_text()
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource)
def test_every_kind_has_a_published_schema(kind: Kind) -> None:
    wanted = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    schemas = DEFINITIONS.get("definitions", DEFINITIONS.get("$defs", DEFINITIONS))
    found = [
        name for name, schema in schemas.items()
        if wanted in schema.get("x-kubernetes-group-version-kind", [])
    ]  # fmt: skip
    assert found


def test_paths_and_keys_tell_kinds_names_and_namespaces_apart() -> None:
    keys = {kind.key("a", "b") for kind in KINDS if kind.version != "v2"}
    assert len(keys) == sum(kind.version != "v2" for kind in KINDS)
    assert Pod.KIND.path("ns", "p", "log") == "/api/v1/namespaces/ns/pods/p/log"
    assert Pod.KIND.key("ns") == "/core/pods/ns/"
    assert Pod.KIND.key() == "/core/pods/"


def test_a_view_reads_what_it_names_and_ignores_the_rest() -> None:
    raw = {
        "metadata": {"name": "p", "namespace": "n", "resourceVersion": "7", "unheard": {"of": 1}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i", "tty": True}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    pod = Pod.of(raw)
    assert (pod.metadata.key, pod.spec.node_name, pod.ready, pod.live) == ("n/p", "n1", True, True)


@pytest.mark.parametrize("view", Resource.__subclasses__(), ids=lambda view: view.__name__)
def test_every_view_can_read_an_object_that_has_next_to_nothing(view: type[Resource]) -> None:
    assert view.of({"metadata": {"name": "x"}}).metadata.name == "x"
