"""How a machine becomes a node: prove the server, ask for a certificate, keep it.

The join token carries the hash of the cluster's CA, so the very first connection can be checked
although nothing is trusted yet; and a secret, which the server checks. The private key is made here
and never leaves this machine.

Everything is synchronous: it happens once, before an event loop exists.
"""

import hashlib
import http.client
import json
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN_PREFIX = "SMP1"  # noqa: S105 - a format's name
PAUSE = 0.05


class EnrolmentError(Exception):
    """The machine cannot join; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A node's proof of who it is, as files, and what the server told it about the cluster."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def certificate(self) -> Path:
        return self.directory / "node.crt"

    @property
    def key(self) -> Path:
        return self.directory / "node.key"

    @property
    def cluster_file(self) -> Path:
        return self.directory / "cluster.json"

    @property
    def cluster(self) -> dict[str, str]:
        return dict(json.loads(self.cluster_file.read_text()))


def enrol(
    server: str, token: str, node: str, directory: Path, *, seconds: float = 60
) -> Credentials:
    """Join *server* as *node*, waiting up to *seconds* until it answers; reuse what is there."""
    credentials = Credentials(directory)
    if credentials.cluster_file.exists():
        return credentials
    wanted_hash, _ = _split(token)
    deadline = time.monotonic() + seconds
    while True:
        try:
            ca = _fetch_ca(server, wanted_hash)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise EnrolmentError(
                    f"{server} does not answer ({error}): is `sampan server` running there, and is "
                    "its port open?"
                ) from error
            time.sleep(PAUSE)
    key = ec.generate_private_key(ec.SECP256R1())
    answer = _join(server, ca, token, node, _request(key, node))
    _keep(credentials, ca, key, answer)
    return credentials


def _split(token: str) -> tuple[str, str]:
    match token.strip().split("."):
        case [prefix, digest, secret] if prefix == TOKEN_PREFIX and len(digest) == 64:  # noqa: PLR2004 - SHA-256 in hex
            return digest, secret
    raise EnrolmentError(
        f"this is not a join token: one starts with {TOKEN_PREFIX}. and stands in the file "
        "/var/lib/sampan/server/token on the server"
    )


def _fetch_ca(server: str, wanted_hash: str) -> str:
    """Take the CA from a server that is not trusted yet, and check it against the token."""
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    pem = _call(server, unverified, "GET", "/sampan/v1/ca").decode()
    try:
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    except ValueError as error:
        raise EnrolmentError(f"{server} is not a Sampan server: it sent no certificate") from error
    if hashlib.sha256(der).hexdigest() != wanted_hash:
        raise EnrolmentError(
            f"the server at {server} is not the one that made this token (its CA differs): take "
            "the token from that server's /var/lib/sampan/server/token"
        )
    return pem


def _request(key: ec.EllipticCurvePrivateKey, node: str) -> str:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _join(server: str, ca: str, token: str, node: str, csr: str) -> dict[str, Any]:
    trusted = ssl.create_default_context(cadata=ca)
    body = json.dumps({"node": node, "csr": csr})
    try:
        answer = _call(server, trusted, "POST", "/sampan/v1/join", body, token.strip())
    except ssl.SSLCertVerificationError as error:
        raise EnrolmentError(
            f"{server} cannot prove that it is this cluster's server: {error.verify_message}"
        ) from error
    except OSError as error:
        raise EnrolmentError(f"{server} broke the connection off: {error}") from error
    return dict(json.loads(answer))


def _call(
    server: str, context: ssl.SSLContext, method: str, path: str, body: str = "", token: str = ""
) -> bytes:
    place = urlsplit(server)
    if place.scheme != "https" or not place.hostname:
        raise EnrolmentError(f"{server!r} is not a server's URL: write https://ADDRESS:6443")
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPSConnection(
        place.hostname, place.port or 6443, timeout=10, context=context
    )
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raise EnrolmentError(f"{server} refused to let this node in: {_message(content)}")
    return content


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:200]


def _keep(
    credentials: Credentials, ca: str, key: ec.EllipticCurvePrivateKey, answer: dict[str, Any]
) -> None:
    """Write the files; the one whose presence means "joined" comes last."""
    credentials.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    handle = os.open(credentials.key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    credentials.ca.write_text(ca)
    credentials.certificate.write_text(answer["certificate"])
    facts = {name: answer[name] for name in ("clusterCIDR", "serviceCIDR", "dnsIP")}
    credentials.cluster_file.write_text(json.dumps(facts))
