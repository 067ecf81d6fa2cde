"""Rules in CEL on custom objects: what they see, what they say, and what is wrong with them."""

from typing import Any

import pytest

from sampan.api.errors import Invalid
from sampan.apiserver.custom import rules
from sampan.apiserver.custom.kind import Version

INTEGER = {"type": "integer"}
TEXT = {"type": "string"}


def rule(source: str, **more: Any) -> dict[str, Any]:
    return {"rule": source, **more}


def version(spec: dict[str, Any]) -> Version:
    whole = {"type": "object", "properties": {"spec": {"type": "object", **spec}}}
    return Version({"name": "v1", "schema": {"openAPIV3Schema": whole}})


def told(spec_schema: dict[str, Any], spec: Any, old: Any = None) -> list[tuple[str, str]]:
    before = None if old is None else {"spec": old}
    causes = version(spec_schema).check({"spec": spec}, before)
    return [(cause.field, cause.message) for cause in causes]


def with_rules(*found: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"properties": properties, "x-kubernetes-validations": list(found)}


LESS = rule("self.min <= self.max", message="min may not exceed max")


def test_a_rule_that_holds_says_nothing_and_one_that_does_not_its_message() -> None:
    schema = with_rules(LESS, min=INTEGER, max=INTEGER)
    assert told(schema, {"min": 1, "max": 2}) == []
    broken = told(schema, {"min": 3, "max": 2})
    assert broken == [("spec", 'Invalid value: "object": min may not exceed max')]


def test_without_a_message_the_rule_itself_is_told() -> None:
    schema = with_rules(rule("self.min > 0"), min=INTEGER)
    assert told(schema, {"min": 0}) == [
        ("spec", 'Invalid value: "object": failed rule: self.min > 0')
    ]


def test_a_message_may_be_an_expression_and_falls_back_when_that_fails() -> None:
    source = "'at most ' + string(self.max) + ', not ' + string(self.min)"
    schema = with_rules({**LESS, "messageExpression": source}, min=INTEGER, max=INTEGER)
    assert told(schema, {"min": 3, "max": 2})[0][1] == 'Invalid value: "object": at most 2, not 3'
    failing = with_rules({**LESS, "messageExpression": "self.nope"}, min=INTEGER, max=INTEGER)
    assert told(failing, {"min": 3, "max": 2})[0][1].endswith("min may not exceed max")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("FieldValueRequired", "Required value: min may not exceed max"),
        ("FieldValueForbidden", "Forbidden: min may not exceed max"),
        ("FieldValueDuplicate", 'Duplicate value: "object": min may not exceed max'),
    ],
)
def test_reason_and_field_path_are_the_rules_own(reason: str, words: str) -> None:
    found = {**LESS, "reason": reason, "fieldPath": ".min"}
    schema = with_rules(found, min=INTEGER, max=INTEGER)
    assert told(schema, {"min": 3, "max": 2}) == [("spec.min", words)]
    assert version(schema).check({"spec": {"min": 3, "max": 2}})[0].reason == reason


def test_a_transition_rule_holds_between_old_and_new_only() -> None:
    fixed = {**TEXT, "x-kubernetes-validations": [rule("self == oldSelf", message="is fixed")]}
    schema = {"properties": {"color": fixed, "size": INTEGER}}
    assert told(schema, {"color": "red"}) == []
    assert told(schema, {"color": "red"}, {"size": 1}) == []
    changed = told(schema, {"color": "red"}, {"color": "blue"})
    assert changed == [("spec.color", 'Invalid value: "string": is fixed')]


def test_an_optional_old_value_lets_a_rule_see_its_first_setting() -> None:
    source = "oldSelf.hasValue() || self == 'first'"
    field = {**TEXT, "x-kubernetes-validations": [rule(source, optionalOldSelf=True)]}
    schema = {"properties": {"phase": field}}
    assert told(schema, {"phase": "first"}) == []
    assert len(told(schema, {"phase": "second"})) == 1
    assert told(schema, {"phase": "second"}, {"phase": "first"}) == []


def test_items_of_a_map_are_told_by_key_whatever_their_place() -> None:
    grows = rule("self.weight >= oldSelf.weight", message="only grows")
    item = {
        "type": "object",
        "properties": {"name": TEXT, "weight": INTEGER},
        "x-kubernetes-validations": [grows],
    }
    jobs = {
        "type": "array", "items": item, "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }  # fmt: skip
    schema = {"properties": {"jobs": jobs}}
    old = {"jobs": [{"name": "a", "weight": 5}, {"name": "b", "weight": 1}]}
    swapped = {"jobs": [{"name": "b", "weight": 1}, {"name": "a", "weight": 5}]}
    assert told(schema, swapped, old) == []
    less = {"jobs": [{"name": "c", "weight": 0}, {"name": "a", "weight": 4}]}
    assert [field for field, _ in told(schema, less, old)] == ["spec.jobs[1]"]


def test_values_have_the_types_that_their_schema_says() -> None:
    share = {"type": "number", "x-kubernetes-validations": [rule("self * 2.0 <= 1.0")]}
    assert told({"properties": {"share": share}}, {"share": 0}) == []
    assert len(told({"properties": {"share": share}}, {"share": 1})) == 1


def test_names_that_are_no_identifiers_are_escaped() -> None:
    schema = with_rules(
        rule("self.__namespace__ == 'x' && self.a__dash__b == 1 && self.c__dot__d == 2"),
        **{"namespace": TEXT, "a-b": INTEGER, "c.d": INTEGER},
    )
    assert told(schema, {"namespace": "x", "a-b": 1, "c.d": 2}) == []


def test_rules_see_name_and_kind_of_the_whole_object() -> None:
    whole = {
        "type": "object",
        "x-kubernetes-validations": [
            rule("self.metadata.name.startsWith('a') && self.kind == 'CronTab'")
        ],
    }
    found = Version({"name": "v1", "schema": {"openAPIV3Schema": whole}})
    obj = {"apiVersion": "x/v1", "kind": "CronTab", "metadata": {"name": "abc", "labels": {}}}
    assert found.check(obj) == []
    assert len(found.check({**obj, "metadata": {"name": "b"}})) == 1


def test_an_error_while_evaluating_is_a_broken_rule() -> None:
    schema = with_rules(LESS, min=INTEGER, max=INTEGER)
    assert told(schema, {"min": 3}) == [
        (
            "spec",
            'Invalid value: "object": no such key: max evaluating rule: min may not exceed max',
        )
    ]


def test_rules_wait_until_the_types_are_right() -> None:
    schema = with_rules(LESS, min=INTEGER, max=INTEGER)
    assert [field for field, _ in told(schema, {"min": "3", "max": 1})] == ["spec.min"]


@pytest.mark.parametrize(
    ("found", "field", "words"),
    [
        (rule(""), "rule", "Required value: rule is not specified"),
        (rule("self.min >"), "rule", "compilation failed: ERROR: <input>:1:11: Syntax error"),
        (rule("self.min + 1"), "rule", "cel expression must evaluate to a bool"),
        (rule("true", message=" "), "message", "message must be non-empty if specified"),
        (rule("true", message="a\nb"), "message", "message must not contain line breaks"),
        (rule("true", messageExpression="1 + 1"), "messageExpression",
         "messageExpression must evaluate to a string"),
        (rule("true", reason="Whim"), "reason", 'Unsupported value: "Whim"'),
        (rule("true", fieldPath=".nope"), "fieldPath", "fieldPath must be a valid path"),
    ],
)  # fmt: skip
def test_a_bad_rule_is_refused_with_its_place(
    found: dict[str, Any], field: str, words: str
) -> None:
    schema = {"type": "object", **with_rules(found, min=INTEGER)}
    [cause] = rules.validate(schema, "spec.x")
    assert cause.field == f"spec.x.x-kubernetes-validations[0].{field}"
    assert words in cause.message


def test_old_values_cannot_be_asked_for_in_a_list_without_keys() -> None:
    item = {**TEXT, "x-kubernetes-validations": [rule("self == oldSelf")]}
    schema = {"type": "array", "items": item}
    [cause] = rules.validate(schema, "spec.x")
    assert "uncorrelatable" in cause.message


def test_old_self_in_a_text_is_no_transition_rule() -> None:
    assert not rules.uses_old("self != 'oldSelf'")
    assert rules.uses_old("self != oldSelf.x")


def test_invalid_is_what_breaking_a_rule_raises() -> None:
    assert Invalid.code == 422
