"""Policies of CEL expressions: what they refuse, warn of and change, and for whom."""

from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Forbidden, Invalid, Unauthorized
from sampan.api.objects import Object
from sampan.apiserver.admission.policies import (
    MUTATING,
    MUTATING_BINDINGS,
    VALIDATING,
    VALIDATING_BINDINGS,
)
from sampan.apiserver.expressions.literals import as_maps
from sampan.apiserver.identity import User
from sampan.apiserver.interface import DeleteOptions, Place
from tests.apiserver.support import Api, call, config_map, deployment, pod

DEPLOYMENTS = {"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
               "resources": ["deployments"]}  # fmt: skip
CONFIGS = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
           "resources": ["configmaps"]}  # fmt: skip
FEW: Object = {"expression": "object.spec.replicas <= 5"}


def policy(*validations: Object, rules: Object = DEPLOYMENTS, **spec: Any) -> Object:
    return {
        "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [rules]},
            "validations": list(validations),
            **spec,
        },
    }


def binding(*actions: str, **spec: Any) -> Object:
    actions = actions or ("Deny",)
    return {
        "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": list(actions), **spec},
    }


async def bound(api: Api, made: Object, *actions: str, **spec: Any) -> None:
    await api.create(VALIDATING, made)
    await api.create(VALIDATING_BINDINGS, binding(*actions, **spec))


async def test_a_policy_refuses_by_its_binding_and_names_the_expression(api: Api) -> None:
    await api.create(VALIDATING, policy(FEW))
    await api.create(kinds.DEPLOYMENTS, deployment("before", replicas=9))
    await api.create(VALIDATING_BINDINGS, binding())
    await api.create(kinds.DEPLOYMENTS, deployment("few", replicas=5))
    with pytest.raises(Invalid) as refused:
        await api.create(kinds.DEPLOYMENTS, deployment("many", replicas=6))
    denied = (
        "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: "
        "object.spec.replicas <= 5"
    )
    assert refused.value.message == f'deployments.apps "many" is forbidden: {denied}'
    assert [cause.message for cause in refused.value.causes] == [denied]
    with pytest.raises(Invalid, match="failed expression"):
        await api.patch(kinds.DEPLOYMENTS, "few", {"spec": {"replicas": 7}})


async def test_message_expression_and_reason_are_what_the_client_is_told(api: Api) -> None:
    told = {
        **FEW,
        "message": "too many",
        "messageExpression": "'no more than 5, not ' + string(object.spec.replicas)",
        "reason": "Forbidden",
    }
    await bound(api, policy(told))
    with pytest.raises(Forbidden, match="denied request: no more than 5, not 6"):
        await api.create(kinds.DEPLOYMENTS, deployment(replicas=6))
    without = {**told, "messageExpression": "object.ghost", "reason": "Unauthorized"}
    await api.patch(VALIDATING, "p", {"spec": {"validations": [without]}})
    with pytest.raises(Unauthorized, match="denied request: too many"):
        await api.create(kinds.DEPLOYMENTS, deployment(replicas=6))


async def test_warn_and_audit_let_it_pass(api: Api) -> None:
    await bound(api, policy({**FEW, "message": "too many"}), "Warn", "Audit")
    warnings: list[str] = []
    await api.create(kinds.DEPLOYMENTS, deployment(replicas=6), warnings=warnings)
    assert warnings == [
        "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': too many"
    ]


async def test_variables_build_on_each_other_and_fail_only_who_needs_them(api: Api) -> None:
    variables = [
        {"name": "n", "expression": "object.spec.replicas"},
        {"name": "twice", "expression": "variables.n * 2"},
        {"name": "odd", "expression": "object.ghost"},
    ]
    await bound(api, policy({"expression": "variables.twice < 10"}, variables=variables))
    await api.create(kinds.DEPLOYMENTS, deployment("a", replicas=4))
    with pytest.raises(Invalid, match=r"variables\.twice < 10"):
        await api.create(kinds.DEPLOYMENTS, deployment("b", replicas=5))
    needs = [{"expression": "variables.odd == 1"}]
    await api.patch(VALIDATING, "p", {"spec": {"validations": needs}})
    with pytest.raises(Invalid, match='composited variable "odd" fails to evaluate: no such key'):
        await api.create(kinds.DEPLOYMENTS, deployment("b"))


async def test_what_fails_refuses_unless_failures_are_ignored(api: Api) -> None:
    odd = {"expression": "object.metadata.labels['a'] == 'b'"}
    await bound(api, policy(odd, rules=CONFIGS))
    with pytest.raises(Invalid, match="resulted in error: no such key: labels"):
        await api.create(kinds.CONFIGMAPS, config_map())
    await api.patch(VALIDATING, "p", {"spec": {"failurePolicy": "Ignore"}})
    await api.create(kinds.CONFIGMAPS, config_map())


async def test_parameters_come_from_where_the_binding_says(api: Api) -> None:
    limited = policy(
        {"expression": "object.spec.replicas <= int(params.data.most)"},
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
    )
    ref = {"name": "limits", "parameterNotFoundAction": "Deny"}
    await bound(api, limited, paramRef=ref)
    with pytest.raises(Invalid, match="no params found for policy binding with `Deny`"):
        await api.create(kinds.DEPLOYMENTS, deployment())
    await api.create(kinds.CONFIGMAPS, config_map("limits", most="3"))
    await api.create(kinds.DEPLOYMENTS, deployment("a", replicas=3))
    with pytest.raises(Invalid, match=r"params\.data\.most"):
        await api.create(kinds.DEPLOYMENTS, deployment("b", replicas=4))
    await api.patch(kinds.CONFIGMAPS, "limits", {"data": {"most": "9"}})
    await api.create(kinds.DEPLOYMENTS, deployment("b", replicas=4))


async def test_each_selected_parameter_is_asked(api: Api) -> None:
    limited = policy(
        {"expression": "object.spec.replicas <= int(params.data.most)"},
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
    )
    chosen = {"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Allow"}
    await bound(api, limited, paramRef=chosen)
    await api.create(kinds.DEPLOYMENTS, deployment("none", replicas=99))
    for name, most in (("a", "5"), ("b", "3")):
        made = config_map(name, most=most)
        made["metadata"]["labels"] = {"limit": "yes"}
        await api.create(kinds.CONFIGMAPS, made)
    with pytest.raises(Invalid):
        await api.create(kinds.DEPLOYMENTS, deployment("some", replicas=4))
    await api.create(kinds.DEPLOYMENTS, deployment("some", replicas=3))


async def test_bindings_and_conditions_narrow_a_policy_down(api: Api) -> None:
    condition = {"name": "c", "expression": "request.userInfo.username != 'root'"}
    elsewhere = {"namespaceSelector": {"matchLabels": {"strict": "yes"}}}
    never = policy({"expression": "false"}, matchConditions=[condition])
    await bound(api, never, matchResources=elsewhere)
    await api.create(kinds.DEPLOYMENTS, deployment("a"))
    await api.patch(kinds.NAMESPACES, "default", {"metadata": {"labels": {"strict": "yes"}}})
    with pytest.raises(Invalid):
        await api.create(kinds.DEPLOYMENTS, deployment("b"))
    await api.create(kinds.DEPLOYMENTS, deployment("b"), user=User("root"))


async def test_excluded_resources_and_names_are_not_meant(api: Api) -> None:
    never = policy({"expression": "false"}, rules=CONFIGS)
    spared = {**CONFIGS, "resourceNames": ["spared"]}
    never["spec"]["matchConstraints"]["excludeResourceRules"] = [spared]
    await bound(api, never)
    await api.create(kinds.CONFIGMAPS, config_map("spared"))
    with pytest.raises(Invalid):
        await api.create(kinds.CONFIGMAPS, config_map("other"))


async def test_a_deletion_has_an_old_object_and_no_new_one(api: Api) -> None:
    kept = {"expression": "object != null || !has(oldObject.data.keep)", "message": "kept"}
    await bound(api, policy(kept, rules=CONFIGS))
    await api.create(kinds.CONFIGMAPS, config_map("a", keep="1"))
    await api.create(kinds.CONFIGMAPS, config_map("b"))
    with pytest.raises(Invalid, match="kept"):
        await api.delete(kinds.CONFIGMAPS, "a")
    await api.delete(kinds.CONFIGMAPS, "b")
    assert "a" in await api.names(kinds.CONFIGMAPS)


async def test_namespace_object_and_authorizer_can_be_asked(api: Api) -> None:
    asks = policy(
        {"expression": "namespaceObject.metadata.name == 'default'"},
        {"expression": "authorizer.group('').resource('secrets').namespace('default')"
                       ".check('get').allowed()", "message": "no secrets"},
        {"expression": "authorizer.requestResource.check('create').allowed()"},
        rules=CONFIGS,
    )  # fmt: skip
    await bound(api, asks)
    await api.create(kinds.CONFIGMAPS, config_map())
    with pytest.raises(Invalid, match="no secrets"):
        await api.create(kinds.CONFIGMAPS, config_map("d"), user=User("nobody"))
    rule = {"verbs": ["get", "create"], "apiGroups": [""], "resources": ["secrets", "configmaps"]}
    await api.create(kinds.ROLES, {"metadata": {"name": "r"}, "rules": [rule]})
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    subject = {"kind": "User", "name": "nobody"}
    made = {"metadata": {"name": "r"}, "roleRef": ref, "subjects": [subject]}
    await api.create(kinds.ROLE_BINDINGS, made)
    await api.create(kinds.CONFIGMAPS, config_map("d"), user=User("nobody"))


async def test_policies_do_not_keep_anybody_from_removing_them(api: Api) -> None:
    every = {**CONFIGS, "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    await bound(api, policy({"expression": "false"}, rules=every))
    with pytest.raises(Invalid):
        await api.create(kinds.CONFIGMAPS, config_map())
    await api.delete(VALIDATING_BINDINGS, "b")
    await api.create(kinds.CONFIGMAPS, config_map())


WRONG = [
    ({"validations": [{"expression": "object.spec.replicas <"}]},
     "spec.validations[0].expression", "compilation failed: ERROR: <input>:1:"),
    ({"validations": [{"expression": "params.x"}]},
     "spec.validations[0].expression", "undeclared reference to 'params"),
    ({"validations": [{"expression": "1"}]},
     "spec.validations[0].expression", "must evaluate to bool"),
    ({"validations": [{**FEW, "messageExpression": "1"}]},
     "spec.validations[0].messageExpression", "must evaluate to string"),
    ({"validations": []}, "spec.validations", "must be present"),
    ({"variables": [{"name": "v", "expression": "ghost"}]},
     "spec.variables[0].expression", "undeclared reference"),
    ({"matchConstraints": {}}, "spec.matchConstraints.resourceRules", "Required value"),
    ({"paramKind": {"kind": "X"}}, "spec.paramKind.apiVersion", "Required value"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path", "why"), WRONG)
async def test_a_policy_that_cannot_be_evaluated_is_refused_with_the_place(
    api: Api, change: Object, path: str, why: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await api.create(VALIDATING, policy(*change.pop("validations", [FEW]), **change))
    [cause] = refused.value.causes
    assert cause.field == path
    assert why in cause.message


async def test_a_binding_must_say_what_follows(api: Api) -> None:
    with pytest.raises(Invalid, match=r"spec\.validationActions"):
        await api.create(VALIDATING_BINDINGS, binding("Deny", "Warn"))
    with pytest.raises(Invalid, match="one of name or selector must be specified"):
        await api.create(VALIDATING_BINDINGS, binding(paramRef={"parameterNotFoundAction": "Deny"}))


def mutation(expression: str, how: str = "ApplyConfiguration") -> Object:
    field = "jsonPatch" if how == "JSONPatch" else "applyConfiguration"
    return {"patchType": how, field: {"expression": expression}}


async def mutating(api: Api, *mutations: Object, rules: Object, **spec: Any) -> None:
    made = policy(rules=rules, mutations=list(mutations), reinvocationPolicy="Never", **spec)
    del made["spec"]["validations"]
    await api.create(MUTATING, made)
    bound = {"metadata": {"name": "b"}, "spec": {"policyName": "p"}}
    await api.create(MUTATING_BINDINGS, bound)


PODS = {**CONFIGS, "operations": ["CREATE"], "resources": ["pods"]}
SIDECAR = """
Object{
  metadata: Object.metadata{
    labels: {"injected": "yes", "of": object.metadata.name}
  },
  spec: Object.spec{
    initContainers: [
      Object.spec.initContainers{
        name: "mesh",  // a comment, with a { brace
        image: "mesh:1",
        restartPolicy: "Always",
        ?workingDir: optional.none()
      }
    ],
    containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, image: "p:1"})
  }
}
"""


async def test_an_apply_configuration_is_merged_by_the_keys_of_lists(api: Api) -> None:
    await mutating(api, mutation(SIDECAR), rules=PODS)
    made = await api.create(kinds.PODS, pod())
    assert made["metadata"]["labels"] == {"injected": "yes", "of": "web"}
    [mesh] = made["spec"]["initContainers"]
    assert (mesh["name"], mesh["restartPolicy"]) == ("mesh", "Always")
    assert mesh["imagePullPolicy"] == "IfNotPresent"
    [main] = made["spec"]["containers"]
    assert (main["name"], main["image"]) == ("main", "p:1")


async def test_a_json_patch_is_carried_out(api: Api) -> None:
    patch = """
    has(object.metadata.labels) ? [] : [
      JSONPatch{op: "add", path: "/metadata/labels", value: {}},
      JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a/b"), value: "c"},
      JSONPatch{op: "test", path: "/data/x", value: "1"}
    ]
    """
    await mutating(api, mutation(patch, "JSONPatch"), rules=CONFIGS)
    made = await api.create(kinds.CONFIGMAPS, config_map("a", x="1"))
    assert made["metadata"]["labels"] == {"a/b": "c"}
    with pytest.raises(Forbidden, match=r"policy 'p' with binding 'b' denied request: .*/data/x"):
        await api.create(kinds.CONFIGMAPS, config_map("b", x="2"))


async def test_mutations_follow_each_other_and_validating_policies_see_the_result(
    api: Api,
) -> None:
    await mutating(
        api,
        mutation("Object{data: {'x': '1'}}"),
        mutation("Object{data: {'y': object.data.x + '!'}}"),
        rules=CONFIGS,
    )
    await bound(api, policy({"expression": "object.data.y == '1!'"}, rules=CONFIGS))
    made = await api.create(kinds.CONFIGMAPS, config_map())
    assert made["data"] == {"x": "1", "y": "1!"}


async def test_a_failed_mutation_refuses_or_is_left_out(api: Api) -> None:
    await mutating(api, mutation("Object{data: {'x': object.ghost}}"), rules=CONFIGS)
    with pytest.raises(Forbidden, match="no such key: ghost"):
        await api.create(kinds.CONFIGMAPS, config_map())
    await api.patch(MUTATING, "p", {"spec": {"failurePolicy": "Ignore"}})
    assert (await api.create(kinds.CONFIGMAPS, config_map(y="2")))["data"] == {"y": "2"}


async def test_a_mutation_may_not_give_an_object_another_name(api: Api) -> None:
    named = "Object{metadata: Object.metadata{name: 'other'}}"
    await mutating(api, mutation(named), rules=CONFIGS)
    with pytest.raises(Forbidden, match=r"metadata\.name may not be set"):
        await api.create(kinds.CONFIGMAPS, config_map())


async def test_mutations_that_do_not_compile_are_refused(api: Api) -> None:
    with pytest.raises(Invalid, match=r"spec\.mutations\[0\]\.applyConfiguration\.expression"):
        await mutating(api, mutation("Object{data: ghost}"), rules=CONFIGS)


async def test_a_deletion_is_not_changed(api: Api) -> None:
    await mutating(api, mutation("Object{data: {'x': '1'}}"), rules=CONFIGS)
    await api.create(kinds.CONFIGMAPS, config_map())
    place = Place(kinds.CONFIGMAPS, "default", "c")
    await api.registry.delete(place, DeleteOptions(), call())


LITERALS = [
    ("Object{a: 1}", '{"a": 1}'),
    ("Object.spec{a: x.b{c: 1}}", '{"a": x.b{c: 1}}'),
    ("[Object.a{b: {'c': d}, e: [f]}]", '[{"b": {\'c\': d}, "e": [f]}]'),
    ("'Object{a: 1}' + r\"Object{\" + c", "'Object{a: 1}' + r\"Object{\" + c"),
    ("myObject{a: 1}", "myObject{a: 1}"),
    ("Object{ ?a: b ? c : d }", '{ ?"a": b ? c : d }'),
    ('JSONPatch{op: "add", value: Object.x{y: 1}}', '{"op": "add", "value": {"y": 1}}'),
    ("Object{}", "{}"),
]


@pytest.mark.parametrize(("source", "turned"), LITERALS)
def test_typed_literals_become_maps_and_nothing_else_changes(source: str, turned: str) -> None:
    assert as_maps(source) == turned
