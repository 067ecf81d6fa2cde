"""What a write does to an object, and what it refuses."""

import asyncio

import orjson
import pytest

from sampan.api import kinds
from sampan.api.errors import AlreadyExists, BadRequest, Conflict, Invalid, NotFound
from sampan.api.kinds import BY_GVK
from sampan.apiserver.interface import Call, Place
from sampan.client.interface import PatchType
from tests.apiserver.support import Api, bound, changed, config_map, deployment, pod, service

MODIFIED = (
    'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; '
    "please apply your changes to the latest version and try again"
)


async def test_a_new_object_gets_what_the_server_owns(api: Api) -> None:
    made = await api.create(kinds.DEPLOYMENTS, deployment())
    meta = made["metadata"]
    assert (meta["namespace"], meta["generation"]) == ("default", 1)
    assert meta["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert len(meta["uid"]) == 36
    assert int(meta["resourceVersion"]) == api.store.revision
    assert (made["kind"], made["apiVersion"]) == ("Deployment", "apps/v1")


async def test_bytes_and_object_agree(api: Api) -> None:
    await api.create(kinds.PODS, pod())
    entry = await api.registry.get(Place(kinds.PODS, "default", "web"))
    assert orjson.loads(entry.data) == entry.object
    assert entry.data.startswith(b'{"kind":"Pod","apiVersion":"v1","metadata":{')


async def test_what_the_client_claims_of_the_servers_fields_is_dropped(api: Api) -> None:
    claim = pod()
    claim["metadata"] |= {
        "uid": "mine",
        "generation": 7,
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    claim["status"] = {"phase": "Running"}
    made = await api.create(kinds.PODS, claim)
    assert made["metadata"]["uid"] != "mine"
    assert made["metadata"]["generation"] == 1
    assert "deletionTimestamp" not in made["metadata"]
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


async def test_the_callers_object_is_left_alone(api: Api) -> None:
    given = pod()
    await api.create(kinds.PODS, given)
    assert given == pod()


async def test_a_generated_name_ends_in_five_random_characters(api: Api) -> None:
    given = {**pod(), "metadata": {"generateName": "web-"}}
    names = {(await api.create(kinds.PODS, given))["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_a_taken_name_is_refused(api: Api) -> None:
    await api.create(kinds.CONFIGMAPS, config_map(a="1"))
    with pytest.raises(AlreadyExists, match='configmaps "c" already exists'):
        await api.create(kinds.CONFIGMAPS, config_map(a="2"))
    assert (await api.get(kinds.CONFIGMAPS, "c"))["data"] == {"a": "1"}


async def test_of_two_creates_at_once_one_wins(api: Api) -> None:
    attempts = (api.create(kinds.CONFIGMAPS, config_map(n=str(n))) for n in range(5))
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, AlreadyExists) for result in results) == 4


async def test_a_namespace_must_be_there_and_match(api: Api) -> None:
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await api.create(kinds.CONFIGMAPS, config_map(), namespace="nowhere")
    elsewhere = changed(config_map(), "metadata", "namespace", to="kube-system")
    with pytest.raises(BadRequest, match="does not match the namespace sent on the request"):
        await api.create(kinds.CONFIGMAPS, elsewhere)


async def test_a_resource_version_has_no_place_in_a_create(api: Api) -> None:
    with pytest.raises(BadRequest, match="resourceVersion should not be set"):
        await api.create(kinds.PODS, changed(pod(), "metadata", "resourceVersion", to="1"))


async def test_an_update_based_on_an_old_version_conflicts(api: Api) -> None:
    old = await api.create(kinds.DEPLOYMENTS, deployment())
    await api.patch(kinds.DEPLOYMENTS, "web", {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(Conflict) as refused:
        await api.update(kinds.DEPLOYMENTS, changed(old, "spec", "replicas", to=5))
    assert refused.value.message == MODIFIED


async def test_an_update_without_a_version_wins(api: Api) -> None:
    await api.create(kinds.CONFIGMAPS, config_map(a="1"))
    updated = await api.update(kinds.CONFIGMAPS, config_map(a="2"))
    assert updated["data"] == {"a": "2"}
    indifferent = changed(config_map(a="3"), "metadata", "resourceVersion", to="0")
    assert (await api.update(kinds.CONFIGMAPS, indifferent))["data"] == {"a": "3"}


async def test_an_update_for_another_uid_conflicts(api: Api) -> None:
    old = await api.create(kinds.CONFIGMAPS, config_map())
    with pytest.raises(Conflict, match="Precondition failed: UID in precondition: other"):
        await api.update(kinds.CONFIGMAPS, changed(old, "metadata", "uid", to="other"))


async def test_an_update_keeps_what_the_server_owns(api: Api) -> None:
    old = await api.create(kinds.CONFIGMAPS, config_map())
    new = changed(old, "metadata", "creationTimestamp", to="1999-01-01T00:00:00Z")
    updated = await api.update(kinds.CONFIGMAPS, changed(new, "data", to={"a": "1"}))
    for field in ("uid", "creationTimestamp"):
        assert updated["metadata"][field] == old["metadata"][field]


async def test_an_update_of_another_name_is_refused(api: Api) -> None:
    await api.create(kinds.CONFIGMAPS, config_map())
    place = Place(kinds.CONFIGMAPS, "default", "c")
    with pytest.raises(BadRequest, match="does not match the name on the URL"):
        await api.registry.update(place, config_map("d"), Call())


async def test_an_update_that_changes_nothing_writes_nothing(api: Api) -> None:
    made = await api.create(kinds.DEPLOYMENTS, deployment())
    assert await api.update(kinds.DEPLOYMENTS, deployment()) == made
    assert await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 1}}) == made


async def test_only_a_change_of_the_spec_counts_as_a_generation(api: Api) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment())
    labelled = await api.patch(kinds.DEPLOYMENTS, "web", {"metadata": {"labels": {"a": "b"}}})
    told = await api.patch(kinds.DEPLOYMENTS, "web", {"status": {"replicas": 1}}, "status")
    scaled = await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 3}})
    generations = [obj["metadata"]["generation"] for obj in (labelled, told, scaled)]
    assert generations == [1, 1, 2]


async def test_status_and_spec_are_written_apart(api: Api) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment())
    both = {"spec": {"replicas": 4}, "status": {"replicas": 2}}
    by_status = await api.patch(kinds.DEPLOYMENTS, "web", both, "status")
    assert (by_status["spec"]["replicas"], by_status["status"]) == (1, {"replicas": 2})
    by_spec = await api.patch(
        kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 4}, "status": {"replicas": 9}}
    )
    assert (by_spec["spec"]["replicas"], by_spec["status"]) == (4, {"replicas": 2})


async def test_a_status_update_leaves_labels_alone(api: Api) -> None:
    made = await api.create(kinds.DEPLOYMENTS, deployment())
    new = changed(made, "metadata", "labels", to={"a": "b"})
    updated = await api.update(
        kinds.DEPLOYMENTS, changed(new, "status", to={"replicas": 1}), "status"
    )
    assert "labels" not in updated["metadata"]


async def test_concurrent_patches_all_arrive(api: Api) -> None:
    await api.create(kinds.CONFIGMAPS, config_map())
    patches = (api.patch(kinds.CONFIGMAPS, "c", {"data": {f"k{n}": "v"}}) for n in range(12))
    await asyncio.gather(*patches)
    assert len((await api.get(kinds.CONFIGMAPS, "c"))["data"]) == 12


async def test_a_patch_may_insist_on_a_version(api: Api) -> None:
    await api.create(kinds.CONFIGMAPS, config_map())
    with pytest.raises(Conflict):
        await api.patch(kinds.CONFIGMAPS, "c", {"metadata": {"resourceVersion": "1"}})


async def test_each_kind_of_patch_reaches_its_object(api: Api) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment())
    replicas = [{"op": "replace", "path": "/spec/replicas", "value": 2}]
    await api.patch(kinds.DEPLOYMENTS, "web", replicas, how=PatchType.JSON)
    tty = {"spec": {"template": {"spec": {"containers": [{"name": "main", "tty": True}]}}}}
    await api.patch(kinds.DEPLOYMENTS, "web", tty, how=PatchType.STRATEGIC)
    done = await api.patch(kinds.DEPLOYMENTS, "web", {"metadata": {"labels": {"x": "y"}}})
    container = done["spec"]["template"]["spec"]["containers"][0]
    assert (done["spec"]["replicas"], container["tty"], container["image"]) == (
        2,
        True,
        "busybox:1",
    )
    assert done["metadata"]["labels"] == {"x": "y"}


async def test_a_patch_cannot_break_the_rules(api: Api) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment())
    with pytest.raises(Invalid, match=r"spec\.replicas: Invalid value: -1"):
        await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": -1}})
    with pytest.raises(BadRequest, match="cannot unmarshal string"):
        await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": "many"}})


async def test_a_dry_run_answers_and_writes_nothing(api: Api) -> None:
    before = api.store.revision
    made = await api.create(kinds.SERVICES, service(), dry_run=True)
    assert made["spec"]["clusterIP"].startswith("10.43.")
    with pytest.raises(NotFound):
        await api.get(kinds.SERVICES, "web")
    await api.create(kinds.CONFIGMAPS, config_map(a="1"))
    patched = await api.patch(kinds.CONFIGMAPS, "c", {"data": {"a": "2"}}, dry_run=True)
    assert patched["data"] == {"a": "2"}
    assert (await api.get(kinds.CONFIGMAPS, "c"))["data"] == {"a": "1"}
    assert api.store.revision == before + 1


async def test_a_lease_is_created_by_its_update(api: Api) -> None:
    lease = {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}
    place = Place(kinds.LEASES, "default", "n1")
    written = await api.registry.update(place, lease, Call())
    assert written.created
    with pytest.raises(NotFound):
        await api.update(kinds.DEPLOYMENTS, deployment())


async def test_an_absent_object_is_not_found_by_its_resource(api: Api) -> None:
    with pytest.raises(NotFound, match=r'deployments\.apps "web" not found') as refused:
        await api.get(kinds.DEPLOYMENTS, "web")
    assert refused.value.details == {"name": "web", "group": "apps", "kind": "deployments"}


async def test_nulls_are_absent(api: Api) -> None:
    given = pod(nodeName=None)
    given["metadata"]["creationTimestamp"] = None
    made = await api.create(kinds.PODS, given)
    assert "nodeName" not in made["spec"]
    assert made["metadata"]["creationTimestamp"]


async def test_a_job_selects_its_pods_by_its_own_uid(api: Api) -> None:
    spec = {"template": {"spec": pod(restartPolicy="Never")["spec"]}}
    made = await api.create(kinds.JOBS, {"metadata": {"name": "j"}, "spec": spec})
    selector = made["spec"]["selector"]["matchLabels"]
    assert selector == {"batch.kubernetes.io/controller-uid": made["metadata"]["uid"]}
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= selector.items()
    assert labels["job-name"] == "j"


async def test_events_of_both_groups_are_one(api: Api) -> None:
    events_v1 = BY_GVK["events.k8s.io/v1", "Event"]
    await api.create(
        events_v1,
        {
            "metadata": {"name": "e"},
            "regarding": {"kind": "Pod", "name": "web"},
            "note": "hello",
            "reason": "Said",
            "type": "Normal",
            "action": "Saying",
            "eventTime": "2026-01-01T00:00:01.500000Z",
            "reportingController": "test",
            "reportingInstance": "test-1",
        },
    )
    core = await api.get(kinds.EVENTS, "e")
    assert (core["message"], core["involvedObject"]["name"]) == ("hello", "web")
    assert core["lastTimestamp"] == "2026-01-01T00:00:01Z"
    [entry] = (await api.page(events_v1)).items
    assert (entry.object["note"], entry.object["apiVersion"]) == ("hello", "events.k8s.io/v1")
    assert await api.names(kinds.EVENTS, fields="involvedObject.name=web") == ["e"]
    assert await api.names(events_v1, fields="regarding.name=other") == []


async def test_an_autoscaler_is_the_same_in_both_versions(api: Api) -> None:
    v1, v2 = (BY_GVK[f"autoscaling/{v}", "HorizontalPodAutoscaler"] for v in ("v1", "v2"))
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "maxReplicas": 5, "targetCPUUtilizationPercentage": 60}
    await api.create(v1, {"metadata": {"name": "web"}, "spec": spec})
    newer = await api.get(v2, "web")
    assert newer["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    patched = await api.patch(v1, "web", {"spec": {"maxReplicas": 7}})
    assert patched["spec"] == {**spec, "maxReplicas": 7, "minReplicas": 1}


async def test_a_pod_is_the_agents_to_tell_about(api: Api) -> None:
    made = await bound(api)
    status = {"status": {"phase": "Running", "podIP": "10.42.0.5"}}
    told = await api.patch(kinds.PODS, "web", status, "status")
    assert told["status"]["phase"] == "Running"
    assert told["metadata"]["generation"] == made["metadata"]["generation"]
