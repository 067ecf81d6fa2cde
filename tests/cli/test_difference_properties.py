"""Whatever was applied, drifted and is wanted now: one patch is enough, and the next is empty."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sampan.apiserver.patches.merge import apply as merge
from sampan.cli.applying import APPLIED, difference, remembering

KEYS = st.sampled_from("abc")
SCALARS = st.integers(0, 3) | st.sampled_from(["x", "y"]) | st.booleans()
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
SPECS = st.dictionaries(KEYS, VALUES, max_size=3)


def obj(spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": spec}


@given(SPECS, SPECS)
def test_after_the_patch_nothing_is_left_to_do(before: Any, wanted: Any) -> None:
    live = remembering(obj(before))
    after = merge(live, difference(obj(wanted), live))
    assert difference(obj(wanted), after) == {}


@given(SPECS, SPECS)
def test_what_only_we_have_set_becomes_exactly_what_is_wanted(before: Any, wanted: Any) -> None:
    live = remembering(obj(before))
    after = merge(live, difference(obj(wanted), live))
    assert pruned(after["spec"]) == pruned(wanted)


def pruned(value: Any) -> Any:
    """An empty mapping in the place of one that lost its entries is as good as none."""
    if not isinstance(value, dict):
        return value
    inner = {key: pruned(each) for key, each in value.items()}
    return {key: each for key, each in inner.items() if each != {}}


@given(SPECS, SPECS)
def test_what_others_set_beside_it_stays(before: Any, wanted: Any) -> None:
    live = remembering(obj(before))
    live["metadata"]["annotations"]["theirs"] = "1"
    live["spec"] = {**live["spec"], "theirs": {"x": 1}}
    after = merge(live, difference(obj(wanted), live))
    assert after["metadata"]["annotations"]["theirs"] == "1"
    assert after["spec"]["theirs"] == {"x": 1}
    assert APPLIED in after["metadata"]["annotations"]
