"""Where a server is and how to prove who we are: from files, or from a kubeconfig."""

import base64
import binascii
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson


class KubeconfigError(Exception):
    """The kubeconfig cannot be used; the text names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Connection:
    server: str
    """The server's URL, without a path."""
    tls: ssl.SSLContext | None = None
    """What to trust and what to show; None for the system's own trust, or plain HTTP."""
    token: str = field(default="", repr=False)
    namespace: str = "default"

    @classmethod
    def from_files(cls, server: str, *, ca: Path, certificate: Path, key: Path) -> Self:
        tls = ssl.create_default_context(cafile=ca)
        tls.load_cert_chain(certificate, key)
        return cls(server.rstrip("/"), tls)

    @classmethod
    def from_kubeconfig(cls, path: Path, context: str = "") -> Self:
        """Read what `kubectl` reads; without *context*, the file's current one."""
        file = _Kubeconfig(path, _load(path))
        chosen = file.entry("contexts", "context", context or file.current_context)
        cluster = file.entry("clusters", "cluster", str(chosen.get("cluster", "")))
        user = file.entry("users", "user", str(chosen.get("user", "")))
        server = str(cluster.get("server", "")).rstrip("/")
        if not server.startswith(("https://", "http://")):
            raise KubeconfigError(f"{path}: {server!r} is not a server's URL")
        tls = _tls(file, cluster, user) if server.startswith("https://") else None
        return cls(server, tls, _token(file, user), str(chosen.get("namespace") or "default"))


@dataclass(frozen=True, slots=True)
class _Kubeconfig:
    path: Path
    content: Mapping[str, Any]

    @property
    def current_context(self) -> str:
        return str(self.content.get("current-context", ""))

    def entry(self, section: str, key: str, name: str) -> Mapping[str, Any]:
        for entry in self.content.get(section) or ():
            if entry.get("name") == name:
                return entry.get(key) or {}
        raise KubeconfigError(f"{self.path}: there is no {key} {name!r}")

    def data(self, entry: Mapping[str, Any], key: str) -> bytes:
        """Read *key* from beside it (`KEY-data`, base64) or from the file that it names."""
        if inline := entry.get(f"{key}-data"):
            try:
                return base64.b64decode(inline, validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise KubeconfigError(f"{self.path}: {key}-data is not base64") from error
        if not (name := entry.get(key)):
            return b""
        try:
            return (self.path.parent / str(name)).read_bytes()
        except OSError as error:
            raise KubeconfigError(f"{self.path}: {key}: {error}") from error


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = _parse(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise KubeconfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, Mapping) or "clusters" not in content:
        raise KubeconfigError(f"{path} is not a kubeconfig: it names no clusters")
    return content


def _parse(data: bytes) -> Any:
    """A server of ours writes JSON, which needs no YAML parser (a slow import)."""
    if data.lstrip().startswith(b"{"):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass  # YAML in flow style begins the same way
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        return YAML(typ="safe", pure=True).load(data)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def _tls(file: _Kubeconfig, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    ca = file.data(cluster, "certificate-authority")
    certificate, key = file.data(user, "client-certificate"), file.data(user, "client-key")
    try:
        tls = ssl.create_default_context(cadata=ca.decode() or None)
        if certificate:
            _show(tls, certificate, key)
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigError(f"{file.path}: a certificate or key is unusable: {error}") from error
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _show(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL takes a client's certificate and key from a file only."""
    with tempfile.NamedTemporaryFile() as pem:  # created with mode 0600
        pem.write(certificate + b"\n" + key)
        pem.flush()
        tls.load_cert_chain(pem.name)


def _token(file: _Kubeconfig, user: Mapping[str, Any]) -> str:
    if name := user.get("tokenFile"):
        try:
            return (file.path.parent / str(name)).read_text().strip()
        except OSError as error:
            raise KubeconfigError(f"{file.path}: tokenFile: {error}") from error
    return str(user.get("token") or "")
