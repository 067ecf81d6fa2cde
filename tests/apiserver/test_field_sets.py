"""Sets of fields obey the laws of sets."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sampan.apiserver import schemas
from sampan.apiserver.patches import fields, server_side

POD = schemas.types()["io.k8s.api.core.v1.Pod"]

nodes: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(
        st.sampled_from(["f:a", "f:b", "f:c"]), inner, min_size=1
    ).flatmap(lambda node: st.sampled_from([node, {".": {}, **node}])),
    max_leaves=6,
)
sets = st.dictionaries(st.sampled_from(["f:a", "f:b", "f:c"]), nodes, max_size=3)


def members(tree: dict[str, Any]) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()

    def walk(node: dict[str, Any], path: tuple[str, ...]) -> None:
        if path and (not node or "." in node):
            found.add(path)
        for name, inner in node.items():
            if name != ".":
                walk(inner, (*path, name))

    walk(tree, ())
    return found


@given(sets, sets)
def test_the_operations_are_those_of_sets(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = members(one), members(other)
    assert members(fields.union(one, other)) == a | b
    assert members(fields.without(one, other)) == a - b
    assert members(fields.common(one, other)) == a & b


@given(sets)
def test_nothing_is_left_of_a_set_without_itself(one: dict[str, Any]) -> None:
    assert fields.without(one, one) == {}
    assert fields.common(one, one) == one == fields.union(one, one)


containers: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abc")},
        optional={
            "image": st.sampled_from("xy"),
            "command": st.lists(st.sampled_from("pq"), max_size=2),
            "env": st.lists(
                st.fixed_dictionaries(
                    {"name": st.sampled_from("EF"), "value": st.sampled_from("12")}
                ),
                max_size=2,
                unique_by=lambda variable: variable["name"],
            ),
        },
    ),
    max_size=3,
    unique_by=lambda container: container["name"],
)
pods = st.fixed_dictionaries(
    {"spec": st.fixed_dictionaries({"containers": containers})},
    optional={"metadata": st.fixed_dictionaries(
        {"labels": st.dictionaries(st.sampled_from("kl"), st.sampled_from("12"), min_size=1)}
    )},
)  # fmt: skip


@given(pods, pods)
def test_a_difference_tells_all_that_changed(old: dict[str, Any], new: dict[str, Any]) -> None:
    touched, removed = fields.difference(old, new, POD)
    before, after = members(fields.of(old, POD)), members(fields.of(new, POD))
    assert (touched is None and removed is None) == (old == new)
    assert after - before <= members(touched or {})
    assert members(removed or {}) - after == members(removed or {}) <= before


LISTS = {"f:containers", "f:env"}
"""Fields themselves only where their list is empty, which merging may fill."""


@given(pods, pods)
def test_what_is_merged_has_all_of_the_configuration(
    live: dict[str, Any], config: dict[str, Any]
) -> None:
    merged = server_side.merge(live, config, POD)
    assert server_side.merge(merged, config, POD) == merged
    filled = {path for path in members(fields.of(config, POD)) if path[-1] not in LISTS}
    assert filled <= members(fields.of(merged, POD))


@given(pods)
def test_removing_all_fields_removes_all_values(live: dict[str, Any]) -> None:
    left = server_side.remove(live, fields.of(live, POD), POD)
    assert left in ({}, {"spec": {"containers": []}}, {"spec": {}})


def test_paths_are_shown_as_kubernetes_shows_them() -> None:
    config = {
        "metadata": {"finalizers": ["x/y"]},
        "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 80}]}]},
    }
    assert list(fields.paths(fields.of(config, POD))) == [
        '.metadata.finalizers[="x/y"]',
        '.spec.containers[name="web"]',
        '.spec.containers[name="web"].name',
        '.spec.containers[name="web"].ports[containerPort=80,protocol="TCP"]',
        '.spec.containers[name="web"].ports[containerPort=80,protocol="TCP"].containerPort',
    ]
