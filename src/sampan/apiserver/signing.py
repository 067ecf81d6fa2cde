"""Certificates for the signing requests that people approve: Kubernetes' own signers.

Source: Kubernetes, "Certificates and Certificate Signing Requests", Kubernetes signers.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sampan.api.errors import BadRequest
from sampan.apiserver.pki import CERTIFICATE_LIFE, KeyPair, builder_for, finish, read_csr

CLIENT: Final = "kubernetes.io/kube-apiserver-client"
NODE_CLIENT: Final = "kubernetes.io/kube-apiserver-client-kubelet"
NODE_SERVING: Final = "kubernetes.io/kubelet-serving"
_ADMINS: Final = "system:masters"


class RequestSigner:
    def __init__(self, ca: KeyPair) -> None:
        self._ca = ca

    def __call__(self, signer: str, pem: str, seconds: int | None) -> bytes:
        """Certify what *pem* asks of *signer*; raise BadRequest if that signer may not."""
        key = read_csr(pem)
        request = x509.load_pem_x509_csr(pem.encode())
        user, groups = (
            _names(request, NameOID.COMMON_NAME),
            _names(request, NameOID.ORGANIZATION_NAME),
        )
        alternative = _alternative_names(request)
        _check(signer, user, groups, alternative)
        asked = timedelta(seconds=seconds) if seconds else CERTIFICATE_LIFE
        builder = builder_for(request.subject, min(asked, CERTIFICATE_LIFE)).public_key(key)
        serving = signer == NODE_SERVING
        usage = ExtendedKeyUsageOID.SERVER_AUTH if serving else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if serving and alternative:
            builder = builder.add_extension(alternative, critical=False)
        return finish(builder, self._ca).public_bytes(serialization.Encoding.PEM)


def _names(request: x509.CertificateSigningRequest, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in request.subject.get_attributes_for_oid(oid)]


def _alternative_names(
    request: x509.CertificateSigningRequest,
) -> x509.SubjectAlternativeName | None:
    try:
        return request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise BadRequest(f"csr: its extensions cannot be read: {error}") from error


def _check(
    signer: str,
    user: Sequence[str],
    groups: Sequence[str],
    alternative: x509.SubjectAlternativeName | None,
) -> None:
    if len(user) != 1:
        raise BadRequest("csr: the subject must have one common name")
    if signer == CLIENT:
        if _ADMINS in groups:
            raise BadRequest(f"csr: use of {CLIENT} signer with {_ADMINS} group is not allowed")
        return
    if list(groups) != ["system:nodes"]:
        raise BadRequest("csr: the organization must be system:nodes")
    if not user[0].startswith("system:node:"):
        raise BadRequest("csr: the common name must begin with system:node:")
    if signer == NODE_CLIENT and alternative is not None:
        raise BadRequest("csr: DNS and IP subject alternative names are not allowed")
    if signer == NODE_SERVING and alternative is None:
        raise BadRequest("csr: a DNS or IP subject alternative name is required")
