"""The cluster's keys and certificates: made once, loaded at every later start.

Everything is EC P-256, because it is generated in a millisecond. The CA's private key never leaves
the server's directory; agents send signing requests, and people get a kubeconfig.
"""

import base64
import hashlib
import ipaddress
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sampan.api.errors import BadRequest

ClientKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

CA_LIFE: Final = timedelta(days=3650)
CERTIFICATE_LIFE: Final = timedelta(days=365)
RENEW_BEFORE: Final = timedelta(days=60)
CLUSTER_NAMES: Final = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


@dataclass(frozen=True, slots=True)
class Pki:
    """What the server signs and proves with; *directory* holds the same as PEM files."""

    directory: Path
    ca: KeyPair
    admin: KeyPair
    service_account_key: ec.EllipticCurvePrivateKey
    join_secret: str

    @property
    def serving_files(self) -> tuple[Path, Path]:
        return self.directory / "serving.crt", self.directory / "serving.key"

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def ca_pem(self) -> bytes:
        return self.ca.certificate_pem

    @property
    def join_token(self) -> str:
        return f"SMP1.{ca_hash(self.ca.certificate)}.{self.join_secret}"

    def sign_node(self, node: str, csr_pem: str) -> bytes:
        """Certify the key of *csr_pem* as the node's; raise BadRequest if that is no request."""
        public_key = read_csr(csr_pem)
        certificate = sign(self.ca, public_key, f"system:node:{node}", ("system:nodes",))
        return certificate.public_bytes(serialization.Encoding.PEM)


def load(data_dir: Path, *, names: Iterable[str] = (), addresses: Iterable[str] = ()) -> Pki:
    """Read the keys under *data_dir*, making what is missing and renewing what is due.

    The serving certificate covers *names* and *addresses* beside the cluster's own names.
    """
    directory = data_dir / "pki"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca = _load_pair(directory, "ca") or _save_pair(directory, "ca", _make_ca())
    _load_serving(directory, ca, {*CLUSTER_NAMES, *names}, {"127.0.0.1", "::1", *addresses})
    pki = Pki(
        directory=directory,
        ca=ca,
        admin=_load_admin(directory, ca),
        service_account_key=_load_key(directory / "service-account.key"),
        join_secret=_load_secret(directory / "join-secret"),
    )
    _write_private(data_dir / "token", f"{pki.join_token}\n".encode())
    return pki


def ca_hash(certificate: x509.Certificate) -> str:
    """The SHA-256 of the DER form, in hex: what a join token pins."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def read_csr(pem: str) -> ClientKey:
    try:
        csr = x509.load_pem_x509_csr(pem.encode())
        valid = csr.is_signature_valid
        public_key = csr.public_key()
    except (ValueError, TypeError, InvalidSignature) as error:
        raise BadRequest(f"csr: not a PEM certificate signing request: {error}") from error
    if not valid:
        raise BadRequest("csr: the request is not signed by the key that it names")
    if not isinstance(public_key, ClientKey):
        raise BadRequest("csr: use an EC, Ed25519 or RSA key")
    return public_key


def sign(
    ca: KeyPair,
    public_key: ClientKey,
    user: str,
    groups: Sequence[str],
) -> x509.Certificate:
    """Certify *public_key* as a client: *user* is the common name, *groups* organisations."""
    builder = builder_for(_subject(user, groups), CERTIFICATE_LIFE).public_key(public_key)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
    )
    return finish(builder, ca)


def write_kubeconfig(path: Path, server_url: str, pki: Pki) -> None:
    """Write the administrator's kubeconfig, certificates embedded, in one step."""
    cluster = {"server": server_url, "certificate-authority-data": _b64(pki.ca_pem)}
    user = {
        "client-certificate-data": _b64(pki.admin.certificate_pem),
        "client-key-data": _b64(pki.admin.key_pem),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sampan", "cluster": cluster}],
        "users": [{"name": "sampan-admin", "user": user}],
        "contexts": [{"name": "sampan", "context": {"cluster": "sampan", "user": "sampan-admin"}}],
        "current-context": "sampan",
    }
    _write_private(path, orjson.dumps(config, option=orjson.OPT_INDENT_2))  # JSON is YAML


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _make_ca() -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("sampan-ca", ())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        builder_for(name, CA_LIFE)
        .public_key(key.public_key())
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(certificate, key)


def _load_serving(directory: Path, ca: KeyPair, names: set[str], addresses: set[str]) -> KeyPair:
    pair = _load_pair(directory, "serving")
    if pair and _covers(pair.certificate, names, addresses) and not _due(pair.certificate):
        return pair
    key = ec.generate_private_key(ec.SECP256R1())
    entries: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(names)]
    entries += [x509.IPAddress(ipaddress.ip_address(a)) for a in sorted(addresses)]
    builder = (
        builder_for(_subject("sampan-server", ()), CERTIFICATE_LIFE)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(entries), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return _save_pair(directory, "serving", KeyPair(finish(builder, ca), key))


def _load_admin(directory: Path, ca: KeyPair) -> KeyPair:
    pair = _load_pair(directory, "admin")
    if pair and not _due(pair.certificate):
        return pair
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign(ca, key.public_key(), "system:admin", ("system:masters",))
    return _save_pair(directory, "admin", KeyPair(certificate, key))


def _covers(certificate: x509.Certificate, names: set[str], addresses: set[str]) -> bool:
    listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known_names = set(listed.get_values_for_type(x509.DNSName))
    known = {str(address) for address in listed.get_values_for_type(x509.IPAddress)}
    return names <= known_names and {str(ipaddress.ip_address(a)) for a in addresses} <= known


def _due(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc - RENEW_BEFORE < datetime.now(UTC)


def _subject(user: str, groups: Sequence[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def builder_for(subject: x509.Name, life: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # machines' clocks differ
        .not_valid_after(now + life)
    )


def finish(builder: x509.CertificateBuilder, ca: KeyPair) -> x509.Certificate:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    return (
        builder.issuer_name(ca.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(authority, critical=False)
        .sign(ca.key, hashes.SHA256())
    )


def _load_pair(directory: Path, name: str) -> KeyPair | None:
    try:
        certificate = (directory / f"{name}.crt").read_bytes()
        key = (directory / f"{name}.key").read_bytes()
    except FileNotFoundError:
        return None
    return KeyPair(x509.load_pem_x509_certificate(certificate), _read_key(key))


def _save_pair(directory: Path, name: str, pair: KeyPair) -> KeyPair:
    _write_private(directory / f"{name}.key", pair.key_pem)
    _write_private(directory / f"{name}.crt", pair.certificate_pem)
    return pair


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        return _read_key(path.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    _write_private(path, key_pem(key))
    return key


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the server's keys are EC keys; this one is not")
    return key


def _load_secret(path: Path) -> str:
    if path.exists():
        return path.read_text().strip()
    secret = secrets.token_hex(32)
    _write_private(path, secret.encode())
    return secret


def _write_private(path: Path, data: bytes) -> None:
    """Replace *path* in one step, readable by its owner only."""
    scratch = path.with_name(f".{path.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    scratch.replace(path)
