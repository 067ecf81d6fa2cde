import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.errors import BadRequest
from sampan.api.selectors import (
    from_label_selector,
    from_labels,
    parse_field_selector,
    parse_label_selector,
)

LABELS = {"app": "web", "tier": "front", "example.com/size": "9"}
names = st.from_regex(r"[a-z]([a-z0-9]{0,5})", fullmatch=True)


@pytest.mark.parametrize(
    "text",
    [
        "", "app=web", "app==web", "app!=db", "app in (db, web)", "app notin (db)", "tier",
        "!debug", "app=web,tier,!debug", "example.com/size>8", "example.com/size<10",
        "absent!=x", "absent notin (x)",
    ],
)  # fmt: skip
def test_selectors_that_match(text: str) -> None:
    assert parse_label_selector(text).matches(LABELS)


@pytest.mark.parametrize(
    "text", ["app=db", "app in (db)", "!app", "debug", "app!=web", "app>1", "absent=x"]
)
def test_selectors_that_do_not_match(text: str) -> None:
    assert not parse_label_selector(text).matches(LABELS)


@pytest.mark.parametrize("text", ["=web", "a b", "app in web", "-x=1", "app in (", "a,,b"])
def test_a_malformed_selector_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_label_selector(text)


@given(st.dictionaries(names, names, max_size=4), st.dictionaries(names, names, max_size=4))
def test_the_object_form_and_the_text_form_agree(
    wanted: dict[str, str], labels: dict[str, str]
) -> None:
    text = parse_label_selector(",".join(f"{key}={value}" for key, value in wanted.items()))
    obj = from_label_selector({"matchLabels": wanted})
    assert obj is not None
    assert text.matches(labels) == obj.matches(labels) == from_labels(wanted).matches(labels)
    assert text.matches(labels) == (wanted.items() <= labels.items())


def test_no_selector_object_selects_nothing_and_stays_none() -> None:
    assert from_label_selector(None) is None


def test_expressions_are_read_from_the_object_form() -> None:
    rules = [
        {"key": "app", "operator": "In", "values": ["web"]},
        {"key": "x", "operator": "DoesNotExist"},
    ]
    selector = from_label_selector({"matchExpressions": rules})
    assert selector
    assert selector.matches(LABELS)
    assert not selector.matches({**LABELS, "x": ""})


def test_field_selectors_compare_texts() -> None:
    selector = parse_field_selector("spec.nodeName=n1,status.phase!=Failed")
    pod = {"spec.nodeName": "n1", "status.phase": "Running"}
    assert selector.matches(lambda path: pod.get(path, ""))
    assert not selector.matches(lambda path: {**pod, "status.phase": "Failed"}.get(path, ""))


def test_a_field_selector_without_a_comparison_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match=r"metadata\.name"):
        parse_field_selector("metadata.name")
