"""The real kubectl against the live server."""

import asyncio
import json

from sampan.api import kinds
from tests.apiserver.http.support import KUBECTL, Live, pod


async def test_create_get_and_delete(live: Live) -> None:
    assert (await live.kubectl("create", "configmap", "c", "--from-literal=a=1")).code == 0
    got = await live.kubectl("get", "configmap", "c", "-o", "jsonpath={.data.a}")
    assert got.out == "1"
    assert 'data:\n  a: "1"' in (await live.kubectl("get", "cm", "c", "-o", "yaml")).out
    assert (await live.kubectl("delete", "cm", "c")).code == 0
    gone = await live.kubectl("get", "cm", "c")
    assert 'configmaps "c" not found' in gone.err


async def test_a_typed_client_sends_protobuf_and_nothing_is_lost(live: Live) -> None:
    made = await live.kubectl(
        "create", "deployment", "web", "--image=x:1", "--replicas=3", "--port=8080"
    )
    assert made.code == 0, made.err
    got = json.loads((await live.kubectl("get", "deployment", "web", "-o", "json")).out)
    assert got["spec"]["replicas"] == 3
    [container] = got["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "x:1"
    assert container["ports"][0]["containerPort"] == 8080
    service = await live.kubectl("create", "service", "nodeport", "s", "--tcp=80:http")
    assert service.code == 0, service.err
    got = json.loads((await live.kubectl("get", "service", "s", "-o", "json")).out)
    assert got["spec"]["ports"][0]["targetPort"] == "http"


async def test_apply_is_idempotent_and_patches(live: Live) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {}}
    for data, word in (({"a": "1"}, "created"), ({"a": "1"}, "unchanged"), ({}, "configured")):
        ran = await live.kubectl("apply", "-f", "-", stdin=json.dumps({**manifest, "data": data}))
        assert word in ran.out, ran.err
    patched = await live.kubectl("patch", "cm", "c", "--type=merge", "-p", '{"data":{"b":"2"}}')
    assert patched.code == 0, patched.err
    assert (await live.kubectl("get", "cm", "c", "-o", "jsonpath={.data}")).out == '{"b":"2"}'


async def test_server_side_apply_names_whom_it_conflicts_with(live: Live) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    first = json.dumps({**manifest, "data": {"a": "1"}})
    assert (await live.kubectl("apply", "--server-side", "-f", "-", stdin=first)).code == 0
    other = json.dumps({**manifest, "data": {"a": "2"}})
    ran = await live.kubectl(
        "apply", "--server-side", "--field-manager=other", "-f", "-", stdin=other
    )
    assert ran.code != 0
    assert 'conflict with "kubectl"' in ran.err


async def test_watch_shows_each_change_and_ends_with_the_server(live: Live) -> None:
    process = await asyncio.create_subprocess_exec(
        KUBECTL, "--kubeconfig", live.kubeconfig, "get", "cm", "-w", "--no-headers",
        "--field-selector=metadata.name=seen",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    try:
        obj = {"metadata": {"name": "seen", "namespace": "default"}, "data": {"a": "1"}}
        async with asyncio.timeout(10):
            await live.make(kinds.CONFIGMAPS, obj)
            assert (await process.stdout.readline()).split()[:2] == [b"seen", b"1"]
    finally:
        process.kill()
        await process.wait()


async def test_can_i_and_whoami(live: Live) -> None:
    assert (await live.kubectl("auth", "can-i", "create", "pods")).out == "yes\n"
    denied = await live.kubectl("auth", "can-i", "create", "pods", "--as=nobody")
    assert denied.out == "no\n"
    assert "system:masters" in (await live.kubectl("auth", "whoami")).out
    masked = await live.kubectl("auth", "whoami", "--as=alice", "--as-group=team")
    assert "[team system:authenticated]" in masked.out
    rules = await live.kubectl("auth", "can-i", "--list")
    assert "*.*" in rules.out


async def test_explain_and_api_resources(live: Live) -> None:
    explained = await live.kubectl("explain", "deployment.spec.strategy.rollingUpdate.maxSurge")
    assert "maximum number of pods" in explained.out
    resources = (await live.kubectl("api-resources", "-o", "wide")).out
    for name in ("pods", "deployments", "endpointslices", "serviceaccounts", "leases"):
        assert name in resources
    assert "apps/v1" in (await live.kubectl("api-versions")).out


async def test_a_role_grants_what_it_says_and_no_more(live: Live) -> None:
    for command in (
        ("create", "role", "reader", "--verb=get,list", "--resource=pods"),
        ("create", "rolebinding", "readers", "--role=reader", "--user=alice"),
    ):
        assert (await live.kubectl(*command)).code == 0
    listed = await live.kubectl("get", "pods", "--as=alice")
    assert "No resources found" in listed.err
    refused = await live.kubectl("delete", "pod", "x", "--as=alice")
    assert 'User "alice" cannot delete resource "pods" in API group ""' in refused.err
    elsewhere = await live.kubectl("get", "pods", "-n", "kube-system", "--as=alice")
    assert 'in the namespace "kube-system"' in elsewhere.err


async def test_a_service_accounts_token_works_until_the_account_is_gone(live: Live) -> None:
    await live.kubectl("create", "serviceaccount", "bob")
    token = (await live.kubectl("create", "token", "bob", "--duration=1h")).out.strip()
    answer = await live.request(
        "GET", "/api/v1/namespaces/default/pods", tls=live.tls(), Authorization=f"Bearer {token}"
    )
    assert answer.status == 403
    assert "system:serviceaccount:default:bob" in answer.json["message"]
    await live.kubectl("delete", "serviceaccount", "bob")
    answer = await live.request("GET", "/version", tls=live.tls(), Authorization=f"Bearer {token}")
    assert answer.status == 401


async def test_an_unknown_field_is_a_warning_or_an_error(live: Live) -> None:
    wrong = pod("web")
    wrong["spec"]["containers"][0]["comand"] = ["typo"]
    refused = await live.kubectl("create", "-f", "-", stdin=json.dumps(wrong))
    assert 'unknown field "spec.containers[0].comand"' in refused.err
    warned = await live.kubectl("create", "--validate=warn", "-f", "-", stdin=json.dumps(wrong))
    assert warned.code == 0
    assert 'unknown field "spec.containers[0].comand"' in warned.err
