"""Every refusal names the field and says what is wrong, in Kubernetes' words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.errors import BadRequest, Invalid
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import schemas
from sampan.apiserver.interface import Call, Place
from sampan.apiserver.validation import names
from sampan.client.interface import PatchType
from tests.apiserver.support import Api, changed, config_map, deployment, pod, service

SPEC = ("spec", "containers", 0)


def with_container(**fields: Any) -> Object:
    made = pod()
    made["spec"]["containers"][0].update(fields)
    return made


def without(obj: Object, *path: Any) -> Object:
    copy = changed(obj, *path, to=None)
    holder: Any = copy
    for part in path[:-1]:
        holder = holder[part]
    del holder[path[-1]]
    return copy


BROKEN: list[tuple[Kind, Object, str]] = [
    (kinds.PODS, {"metadata": {"name": "web"}, "spec": {}}, "spec.containers: Required value"),
    (kinds.PODS, {"metadata": {}, "spec": pod()["spec"]},
     "metadata.name: Required value: name or generateName is required"),
    (kinds.PODS, pod("Web_1"), 'metadata.name: Invalid value: "Web_1": a lowercase RFC 1123'),
    (kinds.PODS, pod("a" * 254), "must be no more than 253 bytes"),
    (kinds.PODS, without(pod(), *SPEC, "name"), "spec.containers[0].name: Required value"),
    (kinds.PODS, without(pod(), *SPEC, "image"), "spec.containers[0].image: Required value"),
    (kinds.PODS, pod(restartPolicy="Sometimes"),
     ('spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", '
      '"OnFailure", "Never"')),
    (kinds.PODS, pod(containers=[{"name": "a", "image": "x"}, {"name": "a", "image": "y"}]),
     'spec.containers[1].name: Duplicate value: "a"'),
    (kinds.PODS, with_container(ports=[{"containerPort": 70000}]),
     ("spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and "
      "65535, inclusive")),
    (kinds.PODS, with_container(ports=[{"name": "a", "containerPort": 1},
                                       {"name": "a", "containerPort": 2}]),
     'spec.containers[0].ports[1].name: Duplicate value: "a"'),
    (kinds.PODS, with_container(resources={"limits": {"memory": "lots"}}),
     'spec.containers[0].resources.limits[memory]: Invalid value: "lots": quantities must match'),
    (kinds.PODS, with_container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
     ('spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to '
      "cpu limit of 1")),
    (kinds.PODS, with_container(env=[{"value": "x"}]),
     "spec.containers[0].env[0].name: Required value"),
    (kinds.PODS, with_container(env=[{"name": "A=B"}]), "spec.containers[0].env[0].name: Invalid"),
    (kinds.PODS, with_container(volumeMounts=[{"name": "data", "mountPath": "/d"}]),
     'spec.containers[0].volumeMounts[0].name: Not found: "data"'),
    (kinds.PODS, with_container(livenessProbe={"periodSeconds": 1}),
     "spec.containers[0].livenessProbe: Required value: must specify a handler type"),
    (kinds.PODS, with_container(livenessProbe={"exec": {}, "tcpSocket": {"port": 1}}),
     "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1"),
    (kinds.PODS, pod(volumes=[{"name": "v"}, {"name": "v"}]),
     'spec.volumes[1].name: Duplicate value: "v"'),
    (kinds.PODS, pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
     "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"),
    (kinds.PODS, pod(tolerations=[{"operator": "Equal", "value": "x"}]),
     "spec.tolerations[0].operator: Invalid value"),
    (kinds.PODS, changed(pod(), "metadata", "labels", to={"bad key!": "x"}),
     'metadata.labels: Invalid value: "bad key!": name part must consist of'),
    (kinds.PODS, changed(pod(), "metadata", "labels", to={"a": "not a value"}),
     'metadata.labels: Invalid value: "not a value": a valid label must be'),
    (kinds.PODS, changed(pod(), "metadata", "finalizers", to=["mine"]),
     "name is neither a standard finalizer name nor is it fully qualified"),
    (kinds.DEPLOYMENTS, changed(deployment(), "spec", "selector", to={"matchLabels": {"a": "b"}}),
     ('spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match '
      "template `labels`")),
    (kinds.DEPLOYMENTS, without(deployment(), "spec", "selector"),
     "spec.selector: Required value"),
    (kinds.DEPLOYMENTS, changed(deployment(), "spec", "selector", to={}),
     "empty selector is invalid for deployment"),
    (kinds.DEPLOYMENTS, deployment(replicas=-1),
     "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
    (kinds.DEPLOYMENTS, deployment(strategy={"rollingUpdate": {"maxSurge": 0,
                                                               "maxUnavailable": "0%"}}),
     "may not be 0 when `maxSurge` is 0"),
    (kinds.DEPLOYMENTS, deployment(strategy={"type": "Recreate", "rollingUpdate": {}}),
     "may not be specified when strategy `type` is 'Recreate'"),
    (kinds.DEPLOYMENTS, deployment(minReadySeconds=600, progressDeadlineSeconds=600),
     "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"),
    (kinds.DEPLOYMENTS, changed(deployment(), "spec", "template", "spec", "restartPolicy",
                                to="Never"),
     'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'),
    (kinds.DEPLOYMENTS, without(deployment(), "spec", "template", "spec", "containers"),
     "spec.template.spec.containers: Required value"),
    (kinds.JOBS, {"metadata": {"name": "j"}, "spec": {"template": {"spec": pod()["spec"]}}},
     ('spec.template.spec.restartPolicy: Unsupported value: "Always": supported values: '
      '"OnFailure", "Never"')),
    (kinds.CRON_JOBS, {"metadata": {"name": "j"}, "spec": {
        "schedule": "often", "jobTemplate": {"spec": {"template": {
            "spec": pod(restartPolicy="Never")["spec"]}}}}},
     'spec.schedule: Invalid value: "often": expected exactly 5 fields, found 1'),
    (kinds.SERVICES, service("1web"), 'metadata.name: Invalid value: "1web": a DNS-1035 label'),
    (kinds.SERVICES, service(ports=[]), "spec.ports: Required value"),
    (kinds.SERVICES, service(ports=[{"port": 80}, {"port": 81}]),
     "spec.ports[0].name: Required value"),
    (kinds.SERVICES, service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
     'spec.ports[1]: Duplicate value: "TCP/80"'),
    (kinds.SERVICES, service(ports=[{"port": 0}]), "spec.ports[0].port: Invalid value: 0"),
    (kinds.SERVICES, service(externalTrafficPolicy="Local"),
     "may only be set for externally-accessible services"),
    (kinds.SERVICES, service(type="Portal"), 'spec.type: Unsupported value: "Portal"'),
    (kinds.SERVICES, {"metadata": {"name": "e"}, "spec": {"type": "ExternalName"}},
     "spec.externalName: Required value"),
    (kinds.CONFIGMAPS, config_map(**{"bad key": "x"}), "data[bad key]: Invalid value"),
    (kinds.CONFIGMAPS, config_map(big="x" * 1_100_000),
     "Too long: may not be more than 1048576 bytes"),
    (kinds.SECRETS, {"metadata": {"name": "s"}, "type": "kubernetes.io/tls"},
     "data[tls.crt]: Required value"),
    (kinds.NAMESPACES, {"metadata": {"name": "a.b"}}, "a lowercase RFC 1123 label"),
    (kinds.NODES, {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "No"}]}},
     'spec.taints[0].effect: Unsupported value: "No"'),
    (kinds.PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "c"}, "spec": {}},
     "spec.accessModes: Required value"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "obj", "text"), BROKEN, ids=[text[:50] for _, _, text in BROKEN])
async def test_a_broken_object_is_refused(api: Api, kind: Kind, obj: Object, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        await api.create(kind, obj)
    assert text in refused.value.message
    assert refused.value.causes
    assert refused.value.details["kind"] == kind.kind


async def test_all_that_is_wrong_is_told_at_once(api: Api) -> None:
    broken = pod("Web", restartPolicy="x", containers=[{"name": "a"}])
    with pytest.raises(Invalid) as refused:
        await api.create(kinds.PODS, broken)
    assert {cause.field for cause in refused.value.causes} == {
        "metadata.name",
        "spec.restartPolicy",
        "spec.containers[0].image",
    }
    assert refused.value.message.startswith('Pod "Web" is invalid: [')


WRONG_TYPES = [
    (pod(containers="none"), "array", "string", "PodSpec.spec.containers"),
    (with_container(image=3), "string", "number", "Container.spec.containers[0].image"),
    (with_container(ports=[{"containerPort": "80"}]), "int32", "string",
     "ContainerPort.spec.containers[0].ports[0].containerPort"),
    (pod(hostNetwork="yes"), "bool", "string", "PodSpec.spec.hostNetwork"),
    (with_container(resources={"limits": {"cpu": []}}), "resource.Quantity", "array",
     "resources.limits.cpu"),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "wanted", "found", "field"), WRONG_TYPES)
async def test_a_wrong_type_is_named_with_its_field(
    api: Api, obj: Object, wanted: str, found: str, field: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        await api.create(kinds.PODS, obj)
    message = refused.value.message
    assert message.startswith('Pod in version "v1" cannot be handled as a Pod: json: cannot ')
    assert f"unmarshal {found} into Go struct field" in message
    assert field in message


async def test_numbers_are_whole_and_fit(api: Api) -> None:
    made = await api.create(kinds.DEPLOYMENTS, changed(deployment(), "spec", "replicas", to=2.0))
    assert isinstance(made["spec"]["replicas"], int)
    with pytest.raises(BadRequest, match=r"unmarshal number 3000000000 .* of type int32"):
        await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 3_000_000_000}})
    with pytest.raises(BadRequest, match=r"cannot unmarshal number .*spec\.replicas"):
        await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 2.5}})
    with pytest.raises(BadRequest, match="not JSON"):
        await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 2**70}})


async def test_misformed_times_and_bytes_are_named(api: Api) -> None:
    with pytest.raises(BadRequest, match=r"illegal base64 data in data\.a"):
        await api.create(kinds.SECRETS, {"metadata": {"name": "s"}, "data": {"a": "no base64!"}})
    await api.create(kinds.LEASES, {"metadata": {"name": "l"}})
    with pytest.raises(BadRequest, match=r'parsing time "soon": spec\.renewTime must be a time'):
        await api.patch(kinds.LEASES, "l", {"spec": {"renewTime": "soon"}})


async def test_unknown_fields_are_refused_told_or_dropped(api: Api) -> None:
    typo = with_container(comand=["x"])
    unknown = 'unknown field "spec.containers[0].comand"'
    with pytest.raises(BadRequest, match="strict decoding error: ") as refused:
        await api.create(kinds.PODS, typo, validation="Strict")
    assert unknown in refused.value.message
    call = Call(validation="Warn")
    made = await api.registry.create(Place(kinds.PODS, "default", "web"), typo, call)
    assert call.warnings == [unknown]
    assert "comand" not in made.object["spec"]["containers"][0]
    quiet = Call(validation="Ignore")
    typo["metadata"]["name"] = "quiet"
    await api.registry.create(Place(kinds.PODS, "default", "quiet"), typo, quiet)
    assert quiet.warnings == []


async def test_the_kind_and_version_must_be_those_of_the_url(api: Api) -> None:
    with pytest.raises(BadRequest, match=r"the API version in the data \(apps/v1beta1\)"):
        await api.create(kinds.DEPLOYMENTS, {**deployment(), "apiVersion": "apps/v1beta1"})
    with pytest.raises(BadRequest, match=r"the kind in the data \(Pod\)"):
        await api.create(kinds.DEPLOYMENTS, {**pod(), "kind": "Pod"})


IMMUTABLE: list[tuple[Kind, Object, Object, str]] = [
    (kinds.DEPLOYMENTS, deployment(), {"spec": {
        "selector": {"matchLabels": {"x": "y"}},
        "template": {"metadata": {"labels": {"x": "y"}}}}},
     'spec.selector: Invalid value: {"matchLabels":{"app":"web","x":"y"}}: field is immutable'),
    (kinds.PODS, pod(), {"spec": {"hostname": "other"}},
     "spec: Forbidden: pod updates may not change fields other than"),
    (kinds.PODS, pod(tolerations=[{"key": "a", "operator": "Exists"}]),
     {"spec": {"tolerations": []}}, "existing toleration can not be modified"),
    (kinds.CONFIGMAPS, {**config_map(a="1"), "immutable": True}, {"data": {"a": "2"}},
     "data: Forbidden: field is immutable when `immutable` is set"),
    (kinds.CONFIGMAPS, {**config_map(a="1"), "immutable": True}, {"immutable": None},
     "immutable: Forbidden"),
    (kinds.SECRETS, {"metadata": {"name": "c"}}, {"type": "other"},
     'type: Invalid value: "other": field is immutable'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "obj", "patch", "text"), IMMUTABLE)
async def test_what_is_fixed_stays(
    api: Api, kind: Kind, obj: Object, patch: Object, text: str
) -> None:
    made = await api.create(kind, obj)
    with pytest.raises(Invalid) as refused:
        await api.patch(kind, obj["metadata"]["name"], patch)
    assert text in refused.value.message
    assert await api.get(kind, obj["metadata"]["name"]) == made


async def test_a_pods_image_may_change(api: Api) -> None:
    await api.create(kinds.PODS, pod())
    replace = [{"op": "replace", "path": "/spec/containers/0/image", "value": "busybox:2"}]
    patched = await api.patch(kinds.PODS, "web", replace, how=PatchType.JSON)
    assert patched["spec"]["containers"][0]["image"] == "busybox:2"
    assert patched["metadata"]["generation"] == 2


async def test_a_bound_claim_may_grow_and_never_shrink(api: Api) -> None:
    def sized(size: str) -> Object:
        return {"resources": {"requests": {"storage": size}}}

    spec = {"accessModes": ["ReadWriteOnce"], **sized("2Gi"), "volumeName": "v"}
    claim = {"metadata": {"name": "data"}, "spec": spec}
    await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, claim)
    grown = await api.patch(kinds.PERSISTENT_VOLUME_CLAIMS, "data", {"spec": sized("3Gi")})
    assert grown["spec"]["resources"]["requests"]["storage"] == "3Gi"
    with pytest.raises(Invalid, match="can not be less than previous value"):
        await api.patch(kinds.PERSISTENT_VOLUME_CLAIMS, "data", {"spec": sized("1Gi")})


async def test_a_role_may_have_a_colon_in_its_name(api: Api) -> None:
    made = await api.create(kinds.CLUSTER_ROLES, {"metadata": {"name": "system:mine"}, "rules": []})
    assert made["metadata"]["name"] == "system:mine"


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_every_label_is_a_subdomain(name: str) -> None:
    assert not names.label(name)
    assert not names.subdomain(name)


@given(st.text(max_size=20))
def test_a_name_of_any_text_is_judged(name: str) -> None:
    for rule in (names.label, names.subdomain, names.qualified, names.label_value):
        assert isinstance(rule(name), str)


def test_every_served_kind_has_a_schema() -> None:
    missing = [kind.kind for kind in kinds.KINDS if schemas.type_name(kind) is None]
    assert missing == []
