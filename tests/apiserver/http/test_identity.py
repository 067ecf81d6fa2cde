"""Who may ask, and as whom: certificates, tokens, masks, reviews, and joining."""

from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sampan.api import kinds
from tests.apiserver.http.support import Live, pod

PODS = "/api/v1/namespaces/default/pods"
ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"


async def test_nobody_in_particular_may_only_look_at_the_door(live: Live) -> None:
    assert (await live.request("GET", "/version", tls=live.tls())).status == 200
    refused = await live.request("GET", PODS, tls=live.tls())
    assert refused.status == 403
    assert refused.json["message"] == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" '
        'in the namespace "default"'
    )
    hidden = await live.request("GET", "/apis/none/v1/things", tls=live.tls())
    assert hidden.status == 403


async def test_a_bad_token_is_401_even_where_anyone_may_go(live: Live) -> None:
    for header in ("Bearer nonsense", "Bearer a.b.c", "Basic YTpi", "Bearer"):
        answer = await live.request("GET", "/version", tls=live.tls(), Authorization=header)
        assert answer.status == 401, header


async def test_a_certificate_of_another_ca_is_no_proof(live: Live, tmp_path: Any) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:admin")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=7,
        not_valid_before=live.keys.ca.certificate.not_valid_before_utc,
        not_valid_after=live.keys.ca.certificate.not_valid_after_utc,
    )
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    file = tmp_path / "forged.pem"
    file.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = live.tls()
    context.load_cert_chain(file)
    with pytest.raises(aiohttp.ClientError):
        await live.request("GET", "/version", tls=context)


async def test_masks_need_permission_for_every_part(live: Live) -> None:
    alice = live.tls("alice", "team")
    refused = await live.request("GET", PODS, tls=alice, Impersonate_User="bob")
    assert refused.status == 403
    assert 'User "alice" cannot impersonate resource "users"' in refused.json["message"]
    masters = await live.request(
        "GET", PODS, tls=alice, Impersonate_User="alice", Impersonate_Group="system:masters"
    )
    assert masters.status == 403
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    headers: dict[str, Any] = {
        "Impersonate_User": "bob", "Impersonate_Uid": "7", "Impersonate_Extra_Team%2Fname": "red",
    }  # fmt: skip
    info = (await live.request("POST", path, {}, **headers)).json["status"]["userInfo"]
    assert info == {
        "username": "bob", "uid": "7", "groups": ["system:authenticated"],
        "extra": {"team/name": ["red"]},
    }  # fmt: skip


async def test_an_access_review_answers_for_others(live: Live) -> None:
    attributes = {"verb": "list", "resource": "pods", "namespace": "default"}
    for user, allowed in (("alice", False), ("root", True)):
        groups = ["system:masters"] if user == "root" else []
        spec = {"user": user, "groups": groups, "resourceAttributes": attributes}
        answer = await live.request("POST", ACCESS, {"spec": spec})
        assert (answer.status, answer.json["status"]["allowed"]) == (201, allowed)


RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"


async def test_nobody_grants_what_they_do_not_hold(live: Live) -> None:
    await live.kubectl("create", "rolebinding", "a", "--clusterrole=admin", "--user=alice")
    alice = live.tls("alice")
    for verb, resource, code in (("get", "pods", 201), ("get", "nodes", 403), ("*", "pods", 403)):
        rule = {"apiGroups": [""], "resources": [resource], "verbs": [verb]}
        body = {"metadata": {"name": f"r-{code}-{verb.strip('*')}x"}, "rules": [rule]}
        answer = await live.request("POST", f"{RBAC}/roles", body, tls=alice)
        assert answer.status == code, answer.json
    for role, code in (("view", 201), ("cluster-admin", 403), ("none", 404)):
        body = {
            "metadata": {"name": role},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role
            },
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}
            ],
        }  # fmt: skip
        answer = await live.request("POST", f"{RBAC}/rolebindings", body, tls=alice)
        assert answer.status == code, answer.json
    for rules in ("x", ["x"], [{"verbs": 1}]):
        broken = {"metadata": {"name": "broken"}, "rules": rules}
        answer = await live.request("POST", f"{RBAC}/roles", broken, tls=alice)
        assert answer.status in {400, 422}, answer.json
    more = [{"op": "add", "path": "/rules/-", "value": {
        "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}}]  # fmt: skip
    path, patch = f"{RBAC}/roles/r-201-getx", "application/json-patch+json"
    answer = await live.request("PATCH", path, more, tls=alice, Content_Type=patch)
    assert answer.status == 403
    assert "permissions not currently held" in answer.json["message"]
    assert len((await live.request("GET", path)).json["rules"]) == 1


async def test_a_tokens_life_ends_with_its_pod(live: Live) -> None:
    made = await live.make(kinds.PODS, pod("web"))
    wish = {"spec": {"audiences": ["ship"], "boundObjectRef": {"kind": "Pod", "name": "web"}}}
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    token = (await live.request("POST", path, wish)).json["status"]["token"]
    review = {"spec": {"token": token, "audiences": ["ship", "other"]}}
    status = (await live.request("POST", TOKENS, review)).json["status"]
    assert (status["authenticated"], status["audiences"]) == (True, ["ship"])
    extra = status["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [made["metadata"]["uid"]]
    ours = (await live.request("POST", TOKENS, {"spec": {"token": token}})).json["status"]
    assert not ours.get("authenticated")
    await live.request("DELETE", f"{PODS}/web?gracePeriodSeconds=0")
    status = (await live.request("POST", TOKENS, review)).json["status"]
    assert status == {"authenticated": False, "error": "the token's Pod 'web' is gone"}


async def test_a_node_does_what_its_pods_need_and_no_more(live: Live) -> None:
    node = live.tls("system:node:n1", "system:nodes")
    assert (await live.request("GET", "/api/v1/pods", tls=node)).status == 200
    assert (await live.request("GET", "/api/v1/secrets", tls=node)).status == 403
    own = {"metadata": {"name": "n1"}}
    assert (await live.request("POST", "/api/v1/nodes", own, tls=node)).status == 201
    merge = "application/merge-patch+json"
    for name, status in (("n1", 200), ("n2", 403)):
        path = f"/api/v1/nodes/{name}/status"
        answer = await live.request("PATCH", path, {}, tls=node, Content_Type=merge)
        assert answer.status == status
    assert (await live.request("POST", "/sampan/v1/images", b"", tls=node)).status == 403


async def test_a_node_writes_only_pods_that_run_on_it(live: Live) -> None:
    for name, node in (("mine", "n1"), ("theirs", "n2"), ("nobodys", "")):
        await live.make(kinds.PODS, pod(name, node))
    own = live.tls("system:node:n1", "system:nodes")
    merge = "application/merge-patch+json"
    status = {"status": {"phase": "Running"}}
    token = "/api/v1/namespaces/default/serviceaccounts/default/token"
    for name, allowed in (("mine", True), ("theirs", False), ("nobodys", False)):
        path = f"{PODS}/{name}"
        answer = await live.request("PATCH", f"{path}/status", status, tls=own, Content_Type=merge)
        assert answer.status == (200 if allowed else 403), answer.json
        wish = {"spec": {"boundObjectRef": {"kind": "Pod", "name": name}}}
        answer = await live.request("POST", token, wish, tls=own)
        assert answer.status == (201 if allowed else 403), answer.json
        answer = await live.request("DELETE", path, tls=own)
        assert answer.status == (200 if allowed else 403), answer.json
    assert (await live.request("POST", token, {}, tls=own)).status == 403
    assert (await live.request("POST", PODS, pod("new", "n1"), tls=own)).status == 403


def signing_request(node: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


async def test_a_machine_joins_with_the_token_and_may_join_again(live: Live) -> None:
    bearer = f"Bearer {live.keys.join_token}"
    for _ in range(2):
        body = {"node": "n1", "csr": signing_request("whoever")}
        answer = await live.request(
            "POST", "/sampan/v1/join", body, tls=live.tls(), Authorization=bearer
        )
        assert answer.status == 200, answer.json
        certificate = x509.load_pem_x509_certificate(answer.json["certificate"].encode())
        assert certificate.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    assert answer.json["clusterCIDR"] == "10.42.0.0/16"
    ca = await live.request("GET", "/sampan/v1/ca", tls=live.tls())
    assert ca.body == live.keys.ca_pem


@pytest.mark.parametrize(
    ("token", "body", "code", "message"),
    [
        ("SMP1.x.y", {"node": "n1", "csr": "x"}, 401, "not the cluster's join token"),
        ("", {"node": "n1", "csr": "x"}, 401, "not the cluster's join token"),
        (None, {"node": "n1", "csr": "x"}, 400, "not a PEM certificate signing request"),
        (None, {"node": "Not A Name", "csr": "x"}, 400, "cannot name a node"),
        (None, {"node": "a" * 300, "csr": "x"}, 400, "cannot name a node"),
        (None, {"node": "n1,O=system:masters", "csr": "x"}, 400, "cannot name a node"),
        (None, {"node": "n1"}, 400, "csr"),
        (None, [], 400, "join"),
    ],
)
async def test_who_joins_wrongly_is_told_why(
    live: Live, token: str | None, body: Any, code: int, message: str
) -> None:
    bearer = f"Bearer {live.keys.join_token if token is None else token}"
    answer = await live.request(
        "POST", "/sampan/v1/join", body, tls=live.tls(), Authorization=bearer
    )
    assert (answer.status, message in answer.json["message"]) == (code, True), answer.json
