"""Strategic merge patches of real kinds."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.errors import BadRequest
from sampan.apiserver import schemas
from sampan.apiserver.patches import strategic

POD = schemas.types()["io.k8s.api.core.v1.Pod"]
DEPLOYMENT = schemas.types()["io.k8s.api.apps.v1.Deployment"]


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def test_containers_are_merged_by_name() -> None:
    old = pod(containers=[{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])
    patch = pod(containers=[{"name": "b", "tty": True}, {"name": "c", "image": "1"}])
    assert strategic.apply(old, patch, POD) == pod(
        containers=[
            {"name": "a", "image": "1"},
            {"name": "b", "image": "1", "tty": True},
            {"name": "c", "image": "1"},
        ]
    )


def test_lists_without_a_merge_strategy_are_replaced() -> None:
    old = pod(containers=[{"name": "a", "command": ["x", "y"]}])
    patch = pod(containers=[{"name": "a", "command": ["z"]}])
    assert strategic.apply(old, patch, POD)["spec"]["containers"][0]["command"] == ["z"]


def test_an_item_is_deleted_by_its_directive() -> None:
    old = pod(containers=[{"name": "a"}, {"name": "b"}])
    patch = pod(containers=[{"$patch": "delete", "name": "a"}])
    assert strategic.apply(old, patch, POD) == pod(containers=[{"name": "b"}])


def test_a_list_is_replaced_by_its_directive() -> None:
    old = pod(containers=[{"name": "a"}, {"name": "b"}])
    patch = pod(containers=[{"name": "c"}, {"$patch": "replace"}])
    assert strategic.apply(old, patch, POD) == pod(containers=[{"name": "c"}])


def test_an_object_is_replaced_or_emptied_by_its_directive() -> None:
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    replace = {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}
    delete = {"metadata": {"labels": {"$patch": "delete"}}}
    assert strategic.apply(old, replace, POD) == {"metadata": {"labels": {"c": "3"}}}
    assert strategic.apply(old, delete, POD) == {"metadata": {"labels": {}}}


def test_null_removes_a_field() -> None:
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    patch = {"metadata": {"labels": {"a": None}}}
    assert strategic.apply(old, patch, POD) == {"metadata": {"labels": {"b": "2"}}}


def test_retained_keys_are_all_that_stays() -> None:
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic.apply(old, patch, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_primitive_lists_are_unions_and_can_lose_members() -> None:
    old = {"metadata": {"finalizers": ["a", "b"]}}
    more = {"metadata": {"finalizers": ["b", "c"]}}
    less = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic.apply(old, more, POD) == {"metadata": {"finalizers": ["a", "b", "c"]}}
    assert strategic.apply(old, less, POD) == {"metadata": {"finalizers": ["b"]}}


def test_the_element_order_is_the_clients_and_others_keep_their_place() -> None:
    old = pod(containers=[{"name": n} for n in ("server", "a", "b")])
    patch = pod(
        containers=[{"name": "new"}],
        **{"$setElementOrder/containers": [{"name": n} for n in ("b", "new", "a")]},
    )
    merged = strategic.apply(old, patch, POD)["spec"]["containers"]
    assert [c["name"] for c in merged] == ["server", "b", "new", "a"]


def test_the_order_alone_reorders() -> None:
    old = pod(containers=[{"name": "a", "image": "x"}, {"name": "b"}])
    patch = pod(**{"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]})
    assert [c["name"] for c in strategic.apply(old, patch, POD)["spec"]["containers"]] == ["b", "a"]


def test_directives_do_not_end_up_in_new_parts() -> None:
    patch = pod(containers=[{"name": "a", "resources": {"$retainKeys": ["limits"], "limits": {}}}])
    assert strategic.apply({}, patch, POD) == pod(
        containers=[{"name": "a", "resources": {"limits": {}}}]
    )


def test_ports_of_one_number_are_told_apart_by_the_merge_key_only() -> None:
    service = schemas.types()["io.k8s.api.core.v1.Service"]
    old = {"spec": {"ports": [{"port": 80, "name": "a"}]}}
    patch = {"spec": {"ports": [{"port": 80, "nodePort": 30080}]}}
    merged = strategic.apply(old, patch, service)
    assert merged == {"spec": {"ports": [{"port": 80, "name": "a", "nodePort": 30080}]}}


@pytest.mark.parametrize(
    "patch",
    [[], pod(containers=[{"image": "x"}]), pod(containers=["x"]), {"spec": {"$patch": "explode"}}],
)
def test_what_cannot_be_merged_is_refused(patch: Any) -> None:
    with pytest.raises(BadRequest):
        strategic.apply(pod(containers=[{"name": "a"}], hostname="x"), patch, POD)


containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abcd")},
        optional={"image": st.sampled_from("xyz"), "tty": st.booleans()},
    ),
    max_size=4,
    unique_by=lambda container: container["name"],
)


@given(containers, containers)
def test_merging_by_key_is_merging_maps(old: list[Any], patch: list[Any]) -> None:
    before = deepcopy((old, patch))
    merged = strategic.apply(pod(containers=old), pod(containers=patch), POD)
    wanted = {c["name"]: c for c in old}
    for container in patch:
        wanted[container["name"]] = {**wanted.get(container["name"], {}), **container}
    assert merged["spec"]["containers"] == list(wanted.values())
    assert (old, patch) == before


@given(containers, containers)
def test_a_patch_applied_twice_is_applied_once(old: list[Any], patch: list[Any]) -> None:
    once = strategic.apply(pod(containers=old), pod(containers=patch), POD)
    assert strategic.apply(once, pod(containers=patch), POD) == once
