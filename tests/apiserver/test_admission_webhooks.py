"""Webhooks, with callers that answer from here: who is asked what, and what follows."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from sampan.api import kinds
from sampan.api.errors import ApiError, BadRequest, Forbidden, InternalError, Invalid
from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.apiserver import expiry
from sampan.apiserver.admission.webhooks import MUTATING, VALIDATING
from sampan.apiserver.interface import Place
from sampan.client.interface import PatchType
from tests.apiserver.support import Api, call, config_map, deployment, pod

Answer = Callable[[Object], Object | Awaitable[Object]]


@dataclass
class Server:
    """Stands for every webhook; *answers* by the path of its URL."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Object]] = field(default_factory=list)

    async def __call__(self, config: Object, body: Object, _seconds: float) -> Object:
        path = config["url"].rpartition("/")[2]
        request = orjson.loads(orjson.dumps(body["request"]))
        self.asked.append((path, request))
        answer = self.answers[path](request)
        if not isinstance(answer, dict):
            answer = await answer
        response = {"uid": request["uid"], "allowed": True, **answer}
        return {**body, "request": None, "response": response}

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@pytest.fixture
def server(api: Api) -> Server:
    made = Server()
    api.registry.call_with(made)
    return made


PODS_MADE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
             "resources": ["pods"]}  # fmt: skip
CONFIGS = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"],
           "resources": ["configmaps"]}  # fmt: skip


def hook(path: str, *rules: Object, **more: Any) -> Object:
    return {
        "name": f"{path}.hooks.example.com",
        "clientConfig": {"url": f"https://hooks.example.com/{path}"},
        "rules": list(rules) or [PODS_MADE],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


async def configured(api: Api, kind: Kind, *hooks: Object, name: str = "hooks") -> None:
    await api.create(kind, {"metadata": {"name": name}, "webhooks": list(hooks)})


def patching(*operations: Object) -> Answer:
    text = base64.b64encode(orjson.dumps(operations)).decode()
    return lambda _: {"patch": text, "patchType": "JSONPatch"}


def labelling(key: str, value: str = "yes") -> Answer:
    def answer(request: Object) -> Object:
        labels = {**(request["object"]["metadata"].get("labels") or {}), key: value}
        return patching({"op": "add", "path": "/metadata/labels", "value": labels})(request)  # type: ignore[return-value]

    return answer


def allowing(_: Object) -> Object:
    return {}


def denying(**status: Any) -> Answer:
    return lambda _: {"allowed": False, "status": status}


async def test_a_mutating_webhook_changes_the_object_and_defaults_follow(
    api: Api, server: Server
) -> None:
    await configured(api, MUTATING, hook("sidecar"))
    extra = {"name": "sidecar", "image": "proxy:1"}
    server.answers["sidecar"] = patching(
        {"op": "add", "path": "/spec/containers/-", "value": extra}
    )
    made = await api.create(kinds.PODS, pod())
    assert [c["name"] for c in made["spec"]["containers"]] == ["main", "sidecar"]
    assert made["spec"]["containers"][1]["imagePullPolicy"] == "IfNotPresent"


async def test_the_request_tells_who_does_what_to_which_object(api: Api, server: Server) -> None:
    await configured(api, VALIDATING, hook("see", CONFIGS))
    server.answers["see"] = allowing
    await api.create(kinds.CONFIGMAPS, config_map("c", a="1"))
    await api.patch(kinds.CONFIGMAPS, "c", {"data": {"a": "2"}})
    await api.delete(kinds.CONFIGMAPS, "c", grace_seconds=3)
    created, updated, deleted = (request for _, request in server.asked)
    assert created["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert created["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert (created["namespace"], created["name"]) == ("default", "c")
    assert created["userInfo"] == {"username": "admin", "groups": ["system:masters"]}
    assert created["options"]["kind"] == "CreateOptions"
    assert created["object"]["metadata"]["uid"]
    assert created["oldObject"] is None
    assert updated["operation"] == "UPDATE"
    assert (updated["oldObject"]["data"], updated["object"]["data"]) == ({"a": "1"}, {"a": "2"})
    assert deleted["operation"] == "DELETE"
    assert deleted["object"] is None
    assert deleted["options"]["gracePeriodSeconds"] == 3


async def test_a_denial_has_the_code_the_reason_and_the_words_of_the_webhook(
    api: Api, server: Server
) -> None:
    await configured(api, VALIDATING, hook("no"))
    server.answers["no"] = denying(message="not on Fridays", code=403, reason="Forbidden")
    with pytest.raises(Forbidden) as refused:
        await api.create(kinds.PODS, pod())
    assert refused.value.message == (
        'admission webhook "no.hooks.example.com" denied the request: not on Fridays'
    )
    server.answers["no"] = denying()
    with pytest.raises(BadRequest, match="denied the request without explanation"):
        await api.create(kinds.PODS, pod())
    server.answers["no"] = denying(code=200, message="odd")
    with pytest.raises(BadRequest, match="odd"):
        await api.create(kinds.PODS, pod())


async def test_mutating_webhooks_see_each_others_changes_in_the_order_of_names(
    api: Api, server: Server
) -> None:
    await configured(api, MUTATING, hook("second"), name="b")
    await configured(api, MUTATING, hook("first"), name="a")
    server.answers |= {"first": labelling("first"), "second": labelling("second")}
    made = await api.create(kinds.PODS, pod())
    assert server.paths() == ["first", "second"]
    assert made["metadata"]["labels"] == {"first": "yes", "second": "yes"}


async def test_only_who_asks_for_it_is_asked_again_and_only_after_a_change(
    api: Api, server: Server
) -> None:
    await configured(
        api, MUTATING,
        hook("early", reinvocationPolicy="IfNeeded"), hook("once"), hook("late"),
        hook("last", reinvocationPolicy="IfNeeded"),
    )  # fmt: skip
    server.answers |= dict.fromkeys(("early", "once", "last"), allowing)
    server.answers["late"] = labelling("late")
    await api.create(kinds.PODS, pod())
    assert server.paths() == ["early", "once", "late", "last", "early"]


async def test_validating_webhooks_are_asked_all_at_once(api: Api, server: Server) -> None:
    await configured(api, VALIDATING, hook("a"), hook("b"))
    together = asyncio.Barrier(2)

    async def waiting(_: Object) -> Object:
        async with asyncio.timeout(5):
            await together.wait()
        return {}

    server.answers |= {"a": waiting, "b": waiting}
    await api.create(kinds.PODS, pod())


async def test_a_webhook_that_thinks_long_holds_up_nobody_else(api: Api, server: Server) -> None:
    await configured(api, VALIDATING, hook("slow"))
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(_: Object) -> Object:
        begun.set()
        await finish.wait()
        return {}

    server.answers["slow"] = slow
    waiting = asyncio.ensure_future(api.create(kinds.PODS, pod()))
    await begun.wait()
    await api.create(kinds.CONFIGMAPS, config_map())
    await api.patch(kinds.CONFIGMAPS, "c", {"data": {"a": "1"}})
    finish.set()
    await waiting


def broken(_: Object) -> Object:
    raise InternalError("connection refused")


async def test_who_cannot_be_asked_refuses_unless_failures_are_ignored(
    api: Api, server: Server
) -> None:
    await configured(api, VALIDATING, hook("gone", failurePolicy="Ignore"))
    server.answers["gone"] = broken
    await api.create(kinds.PODS, pod("a"))
    await configured(api, MUTATING, hook("gone"))
    with pytest.raises(InternalError) as refused:
        await api.create(kinds.PODS, pod("b"))
    assert refused.value.message == (
        'Internal error occurred: failed calling webhook "gone.hooks.example.com": failed to call '
        "webhook: connection refused"
    )


NONSENSE = [
    ({"uid": "other"}, "expected response.uid="),
    ({"allowed": "yes"}, "response.allowed is not a boolean"),
    ({"patch": "!", "patchType": "JSONPatch"}, "response.patch cannot be read"),
    ({"patch": "W10=", "patchType": "Merge"}, "invalid response.patchType"),
]


@pytest.mark.parametrize(("answer", "why"), NONSENSE)
async def test_an_answer_that_makes_no_sense_is_a_failed_call(
    api: Api, server: Server, answer: Object, why: str
) -> None:
    await configured(api, MUTATING, hook("odd"))
    server.answers["odd"] = lambda _: answer
    with pytest.raises(InternalError, match=why):
        await api.create(kinds.PODS, pod())


async def test_a_patch_that_does_not_fit_is_a_failed_call(api: Api, server: Server) -> None:
    await configured(api, MUTATING, hook("odd"))
    server.answers["odd"] = patching({"op": "remove", "path": "/spec/ghost"})
    with pytest.raises(InternalError, match="failed calling webhook"):
        await api.create(kinds.PODS, pod())


async def test_what_a_webhook_makes_is_validated_like_everything_else(
    api: Api, server: Server
) -> None:
    await configured(api, MUTATING, hook("bad"))
    server.answers["bad"] = patching({"op": "replace", "path": "/spec/containers", "value": []})
    with pytest.raises(Invalid, match=r"spec\.containers"):
        await api.create(kinds.PODS, pod())


async def test_selectors_rules_and_scopes_say_who_is_asked(api: Api, server: Server) -> None:
    everything = {**PODS_MADE, "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    await configured(
        api, VALIDATING,
        hook("labelled", objectSelector={"matchLabels": {"ask": "me"}}),
        hook("elsewhere", namespaceSelector={"matchLabels": {
            "kubernetes.io/metadata.name": "other"}}),
        hook("cluster", {**everything, "scope": "Cluster"}),
        hook("space", everything, namespaceSelector={"matchLabels": {"team": "a"}}),
    )  # fmt: skip
    names = ("labelled", "elsewhere", "cluster", "space")
    server.answers |= dict.fromkeys(names, allowing)
    await api.create(kinds.PODS, pod("plain"))
    assert server.paths() == []
    asking = {**pod("asking"), "metadata": {"name": "asking", "labels": {"ask": "me"}}}
    await api.create(kinds.PODS, asking)
    assert server.paths() == ["labelled"]
    server.asked.clear()
    space = {"metadata": {"name": "other", "labels": {"team": "a"}}}
    await api.registry.create(Place(kinds.NAMESPACES), space, call())
    assert sorted(server.paths()) == ["cluster", "space"]
    server.asked.clear()
    await api.create(kinds.PODS, pod("there"), "other")
    assert sorted(server.paths()) == ["elsewhere", "space"]


async def test_match_conditions_narrow_it_down(api: Api, server: Server) -> None:
    conditions = [
        {"name": "not-nodes", "expression": "!('system:nodes' in request.userInfo.groups)"},
        {"name": "images", "expression": "object.spec.containers.exists(c, c.image == 'x')"},
    ]
    await configured(api, VALIDATING, hook("some", matchConditions=conditions))
    server.answers["some"] = allowing
    await api.create(kinds.PODS, pod("a"))
    assert server.paths() == []
    made = pod("b")
    made["spec"]["containers"][0]["image"] = "x"
    await api.create(kinds.PODS, made)
    assert server.paths() == ["some"]


async def test_a_condition_without_value_is_a_failure(api: Api, server: Server) -> None:
    conditions = [{"name": "odd", "expression": "object.metadata.labels['a'] == 'b'"}]
    await configured(api, VALIDATING, hook("some", matchConditions=conditions))
    with pytest.raises(Forbidden, match="match condition 'odd' failed: no such key: labels"):
        await api.create(kinds.PODS, pod())


async def test_a_dry_run_is_refused_by_webhooks_that_would_do_more(
    api: Api, server: Server
) -> None:
    await configured(api, VALIDATING, hook("calm", sideEffects="NoneOnDryRun"))
    server.answers["calm"] = allowing
    await api.create(kinds.PODS, pod(), dry_run=True)
    assert [request["dryRun"] for _, request in server.asked] == [True]


async def test_warnings_reach_the_client(api: Api, server: Server) -> None:
    await configured(api, VALIDATING, hook("warn"))
    server.answers["warn"] = lambda _: {"warnings": ["mind the gap"]}
    warnings: list[str] = []
    await api.create(kinds.PODS, pod(), warnings=warnings)
    assert warnings == ["mind the gap"]


async def test_nobody_can_keep_a_webhook_from_being_taken_away(api: Api, server: Server) -> None:
    rule = {
        "operations": ["*"],
        "apiGroups": ["*"],
        "apiVersions": ["*"],
        "resources": ["*", "*/*"],
    }
    await configured(api, VALIDATING, hook("all", rule))
    server.answers["all"] = denying(message="never")
    with pytest.raises(ApiError):
        await api.create(kinds.CONFIGMAPS, config_map())
    await api.delete(VALIDATING, "hooks")
    await api.create(kinds.CONFIGMAPS, config_map())


def of(resource: str, *operations: str, group: str = "") -> Object:
    return {"operations": list(operations), "apiGroups": [group], "apiVersions": ["v1"],
            "resources": [resource]}  # fmt: skip


async def test_subresources_are_asked_about_by_what_is_sent_to_them(
    api: Api, server: Server
) -> None:
    await configured(
        api, VALIDATING,
        hook("bind", of("pods/binding", "CREATE")),
        hook("evict", of("pods/eviction", "CREATE")),
        hook("scale", of("deployments/scale", "UPDATE", group="apps")),
        hook("status", of("pods/*", "UPDATE")),
        hook("exec", of("pods/exec", "CONNECT")),
    )  # fmt: skip
    paths = ("bind", "evict", "scale", "status", "exec")
    server.answers |= dict.fromkeys(paths, allowing)
    await api.create(kinds.PODS, pod())
    await api.post(kinds.PODS, "web", "binding", {"target": {"kind": "Node", "name": "n1"}})
    await api.patch(kinds.PODS, "web", {"status": {"phase": "Running"}}, "status")
    options = {"kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh"]}
    await api.registry.connect(Place(kinds.PODS, "default", "web", "exec"), options, call())
    await api.post(kinds.PODS, "web", "eviction", {"metadata": {"name": "web"}})
    await api.create(kinds.DEPLOYMENTS, deployment())
    await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 4}}, "scale")
    assert server.paths() == ["bind", "status", "exec", "evict", "scale"]
    about = dict(server.asked)
    assert about["bind"]["object"]["target"]["name"] == "n1"
    assert about["bind"]["kind"]["kind"] == "Binding"
    assert about["bind"]["subResource"] == "binding"
    assert about["exec"]["object"]["command"] == ["sh"]
    assert about["scale"]["object"]["spec"] == {"replicas": 4}
    assert about["scale"]["oldObject"]["spec"] == {"replicas": 1}
    assert about["scale"]["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}


async def test_a_webhook_may_change_a_scale(api: Api, server: Server) -> None:
    await configured(api, MUTATING, hook("cap", of("deployments/scale", "UPDATE", group="apps")))
    server.answers["cap"] = patching({"op": "replace", "path": "/spec/replicas", "value": 2})
    await api.create(kinds.DEPLOYMENTS, deployment())
    await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 9}}, "scale")
    assert (await api.get(kinds.DEPLOYMENTS, "web"))["spec"]["replicas"] == 2


async def test_another_version_of_the_same_object_is_converted_for_the_webhook(
    api: Api, server: Server
) -> None:
    rule = {"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
            "resources": ["horizontalpodautoscalers"]}  # fmt: skip
    await configured(api, MUTATING, hook("old", rule), hook("exact", rule, matchPolicy="Exact"))
    server.answers["old"] = patching(
        {"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 33}
    )
    kind = BY_GVK["autoscaling/v2", "HorizontalPodAutoscaler"]
    scaler = {"metadata": {"name": "h"}, "spec": {
        "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}}  # fmt: skip
    made = await api.create(kind, scaler)
    assert server.paths() == ["old"]
    [metric] = made["spec"]["metrics"]
    assert metric["resource"]["target"]["averageUtilization"] == 33


WRONG = [
    ({"name": "short"}, "webhooks[0].name", "at least three segments"),
    ({"clientConfig": {"url": "http://x/y"}}, "webhooks[0].clientConfig.url", "'https' is the"),
    ({"clientConfig": {}}, "webhooks[0].clientConfig", "exactly one of url or service"),
    ({"sideEffects": "Some"}, "webhooks[0].sideEffects", "supported values"),
    ({"timeoutSeconds": 31}, "webhooks[0].timeoutSeconds", "between 1 and 30 seconds"),
    ({"admissionReviewVersions": ["v9"]}, "webhooks[0].admissionReviewVersions", "at least one"),
    ({"rules": [{**PODS_MADE, "operations": ["MAKE"]}]}, "webhooks[0].rules[0].operations[0]",
     "supported values"),
    ({"matchConditions": [{"name": "x", "expression": "objekt.a"}]},
     "webhooks[0].matchConditions[0].expression", "undeclared reference to 'objekt.a'"),
    ({"matchConditions": [{"name": "x", "expression": "1"}]},
     "webhooks[0].matchConditions[0].expression", "must evaluate to bool"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path", "why"), WRONG)
async def test_what_a_configuration_says_wrongly_is_named(
    api: Api, change: Object, path: str, why: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await configured(api, VALIDATING, {**hook("h"), **change})
    [cause] = refused.value.causes
    assert cause.field == path
    assert why in cause.message


async def test_a_configuration_reads_back_with_its_defaults(api: Api) -> None:
    service = {"service": {"name": "s", "namespace": "n"}}
    await configured(api, MUTATING, hook("h", clientConfig=service))
    [made] = (await api.get(MUTATING, "hooks"))["webhooks"]
    wanted = {
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": 10,
        "reinvocationPolicy": "Never",
        "namespaceSelector": {},
        "objectSelector": {},
    }
    assert {field: made[field] for field in wanted} == wanted
    assert made["clientConfig"]["service"]["port"] == 443
    assert made["rules"][0]["scope"] == "*"


async def test_old_events_are_forgotten_whatever_a_webhook_says(
    api: Api, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "EVERY", 1)
    rule = {**of("events", "DELETE"), "operations": ["DELETE"]}
    await configured(api, VALIDATING, hook("keep", rule))
    server.answers["keep"] = denying(message="history is sacred")
    event = {"involvedObject": {"kind": "Pod", "namespace": "default"}, "reason": "x"}
    for name in ("old", "new"):
        seen = {"lastTimestamp": timestamp(api.clock())}
        await api.create(kinds.EVENTS, {**event, **seen, "metadata": {"name": name}})
        api.clock.pass_(2 * 3600)
    assert await api.names(kinds.EVENTS) == ["new"]


async def test_apply_passes_webhooks_as_well(api: Api, server: Server) -> None:
    await configured(api, MUTATING, hook("label", CONFIGS))
    server.answers["label"] = labelling("seen")
    for data in ("1", "2"):
        config = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("c", a=data)}
        written = await api.apply(kinds.CONFIGMAPS, config)
    assert written.entry.object["metadata"]["labels"] == {"seen": "yes"}
    assert written.entry.object["data"] == {"a": "2"}
    patch = [{"op": "replace", "path": "/data/a", "value": "3"}]
    await api.patch(kinds.CONFIGMAPS, "c", patch, how=PatchType.JSON)
    assert [request["operation"] for _, request in server.asked] == ["CREATE", "UPDATE", "UPDATE"]
