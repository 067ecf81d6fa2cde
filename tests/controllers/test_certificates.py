"""Signing requests: certified when approved, refused with a reason, removed when old."""

import asyncio
import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.apiserver.pki import _make_ca
from sampan.apiserver.signing import CLIENT, NODE_CLIENT, NODE_SERVING, RequestSigner
from sampan.controllers import certificates
from sampan.controllers.certificates import SigningRequest
from tests.controllers.cluster import running, until
from tests.controllers.memory_api import MemoryApi

KIND = SigningRequest.KIND
CA = _make_ca()
NODE = ("system:node:n1", "system:nodes")


def csr(user: str, *groups: str, dns: str = "") -> bytes:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    if user:
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    if dns:
        alternative = x509.SubjectAlternativeName([x509.DNSName(dns)])
        builder = builder.add_extension(alternative, critical=False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def asked(request: bytes, signer: str = CLIENT, **spec: object) -> Object:
    text = base64.b64encode(request).decode()
    return {
        "metadata": {"name": "r"}, "spec": {"request": text, "signerName": signer, **spec},
    }  # fmt: skip


async def approve(api: MemoryApi, verdict: str = "Approved") -> None:
    at = timestamp(api.now())
    told = {"type": verdict, "status": "True", "lastUpdateTime": at}
    await api.patch(KIND, "r", {"status": {"conditions": [told]}})


async def answer(api: MemoryApi, request: Object) -> Object:
    """Create and approve *request*, and return its status a moment later."""
    await api.create(KIND, request)
    async with running(api, [certificates.controller(RequestSigner(CA))]):
        await asyncio.sleep(1)
        assert "certificate" not in (api.of(KIND)[0].get("status") or {})
        await approve(api)
        await until(lambda: len(api.of(KIND)[0]["status"]) + len(conditions(api)) > 2)
    found: Object = api.of(KIND)[0]["status"]
    return found


def conditions(api: MemoryApi) -> list[Object]:
    found: list[Object] = api.of(KIND)[0]["status"]["conditions"]
    return found


async def test_an_approved_request_gets_a_client_certificate_of_the_life_it_asked_for() -> None:
    status = await answer(MemoryApi(), asked(csr("ann", "devs"), expirationSeconds=7200))
    made = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    made.verify_directly_issued_by(CA.certificate)
    assert made.subject.rfc4514_string() == "CN=ann,O=devs"
    life = made.not_valid_after_utc - made.not_valid_before_utc
    assert life.total_seconds() == 7200 + 3600
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


async def test_a_node_gets_a_serving_certificate_for_its_names() -> None:
    status = await answer(MemoryApi(), asked(csr(*NODE, dns="n1.example"), NODE_SERVING))
    made = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1.example"]
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    ("request_", "signer", "why"),
    [
        (csr("eve", "system:masters"), CLIENT, "system:masters group is not allowed"),
        (csr("", "devs"), CLIENT, "one common name"),
        (b"nonsense", CLIENT, "not a PEM"),
        (csr("eve", "system:nodes"), NODE_CLIENT, "must begin with system:node:"),
        (csr("system:node:n1", "devs"), NODE_CLIENT, "must be system:nodes"),
        (csr(*NODE, dns="x"), NODE_CLIENT, "not allowed"),
        (csr(*NODE), NODE_SERVING, "is required"),
    ],
)
async def test_what_a_signer_may_not_certify_fails_with_the_reason(
    request_: bytes, signer: str, why: str
) -> None:
    api = MemoryApi()
    status = await answer(api, asked(request_, signer))
    assert "certificate" not in status
    [failed] = [c for c in conditions(api) if c["type"] == "Failed"]
    assert failed["reason"] == "SignerValidationFailure"
    assert why in failed["message"]


async def test_requests_of_other_signers_and_denied_ones_are_left_alone_and_go_when_old() -> None:
    for signer, verdict, hours in (("example.com/x", "Approved", 24), (CLIENT, "Denied", 1)):
        api = MemoryApi()
        await api.create(KIND, asked(csr("ann"), signer))
        await approve(api, verdict)
        which = [certificates.controller(RequestSigner(CA))]
        async with running(api, which, agents=False):
            await asyncio.sleep(hours * 3600 - 10)
            assert "certificate" not in api.of(KIND)[0]["status"]
            await asyncio.sleep(20)
        assert api.of(KIND) == []
