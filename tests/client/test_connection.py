"""Connections from kubeconfigs and files, shown to work against a server that demands TLS."""

import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.apiserver import pki
from sampan.client.http import Connection, HttpClient, KubeconfigError
from tests.client.server import FakeApi, serving


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def keys(tmp_path: Path) -> pki.Pki:
    return pki.load(tmp_path / "server")


@pytest.fixture
async def api(anyio_backend: str, keys: pki.Pki) -> AsyncIterator[FakeApi]:
    """A server that lets in whom the cluster's CA has signed, and nobody else."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=keys.ca_file)
    context.load_cert_chain(*keys.serving_files)
    context.verify_mode = ssl.CERT_REQUIRED
    async with serving(context) as running:
        running.answer("GET", "/api/v1/nodes/a", {"metadata": {"name": "a"}})
        yield running


async def ask(connection: Connection) -> object:
    async with HttpClient(connection) as client:
        return await client.get(kinds.NODES, "a")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write(directory: Path, keys: pki.Pki, server: str) -> Path:
    path = directory / "kubeconfig"
    pki.write_kubeconfig(path, server, keys)
    return path


def as_yaml(server: str, cluster: str = "", user: str = "", context: str = "") -> str:
    return (
        "clusters:\n- name: c\n  cluster:\n"
        f"    server: {server}\n{cluster}"
        f"users:\n- name: u\n  user:\n    x: y\n{user}"
        f"contexts:\n- name: main\n  context: {{cluster: c, user: u{context}}}\n"
        "current-context: main\n"
    )


async def test_the_servers_own_kubeconfig_lets_one_in(
    api: FakeApi, keys: pki.Pki, tmp_path: Path
) -> None:
    path = write(tmp_path, keys, f"{api.url}/")
    assert await ask(Connection.from_kubeconfig(path)) == {"metadata": {"name": "a"}}


async def test_files_let_one_in(api: FakeApi, keys: pki.Pki, tmp_path: Path) -> None:
    (tmp_path / "crt").write_bytes(keys.admin.certificate_pem)
    (tmp_path / "key").write_bytes(keys.admin.key_pem)
    connection = Connection.from_files(
        api.url, ca=keys.ca_file, certificate=tmp_path / "crt", key=tmp_path / "key"
    )
    assert await ask(connection) == {"metadata": {"name": "a"}}


async def test_a_kubeconfig_in_yaml_may_name_files_beside_itself(
    api: FakeApi, keys: pki.Pki, tmp_path: Path
) -> None:
    (tmp_path / "ca.crt").write_bytes(keys.ca_pem)
    (tmp_path / "admin.crt").write_bytes(keys.admin.certificate_pem)
    path = tmp_path / "config"
    path.write_text(
        as_yaml(
            api.url,
            "    certificate-authority: ca.crt\n",
            f"    client-certificate: admin.crt\n    client-key-data: {b64(keys.admin.key_pem)}\n",
        )
    )
    assert await ask(Connection.from_kubeconfig(path)) == {"metadata": {"name": "a"}}


async def test_a_server_of_another_ca_is_not_trusted(
    api: FakeApi, keys: pki.Pki, tmp_path: Path
) -> None:
    other = pki.load(tmp_path / "other")
    path = write(tmp_path, other, api.url)
    with pytest.raises(ServiceUnavailable, match="not to be trusted"):
        await ask(Connection.from_kubeconfig(path))


async def test_without_a_certificate_the_connection_breaks_with_a_reason(
    api: FakeApi, keys: pki.Pki, tmp_path: Path
) -> None:
    path = tmp_path / "config"
    path.write_text(as_yaml(api.url, "    insecure-skip-tls-verify: true\n"))
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        await ask(Connection.from_kubeconfig(path))


def test_a_context_chooses_cluster_user_and_namespace(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        as_yaml("http://one", "", "    token: t1\n", ", namespace: team").replace(
            "current-context: main", "current-context: other"
        )
    )
    chosen = Connection.from_kubeconfig(path, "main")
    assert (chosen.server, chosen.token, chosen.namespace) == ("http://one", "t1", "team")
    assert "t1" not in repr(chosen)
    with pytest.raises(KubeconfigError, match="there is no context 'other'"):
        Connection.from_kubeconfig(path)


def test_a_token_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    path = tmp_path / "config"
    path.write_text(as_yaml("http://one", "", "    tokenFile: token\n"))
    assert Connection.from_kubeconfig(path).token == "secret"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML"),
        ("just text", "is not a kubeconfig"),
        ("{}", "names no clusters"),
        ('{"clusters": ', "is not YAML"),
        (as_yaml("ftp://x"), "is not a server's URL"),
        (as_yaml("https://x", "    certificate-authority-data: '%%%'\n"), "is not base64"),
        (as_yaml("https://x", "    certificate-authority: absent\n"), "certificate-authority: "),
        (as_yaml("https://x", f"    certificate-authority-data: {b64(b'x')}\n"), "unusable"),
        (as_yaml("https://x", "", "    tokenFile: absent\n"), "tokenFile: "),
        (as_yaml("https://x").replace("user: u}", "user: v}"), "there is no user 'v'"),
    ],
)  # fmt: skip
def test_a_kubeconfig_that_cannot_be_used_says_what_is_wrong(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(KubeconfigError, match=message) as error:
        Connection.from_kubeconfig(path)
    assert str(path) in str(error.value)


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="cannot read"):
        Connection.from_kubeconfig(tmp_path / "absent")


def test_json_that_is_yaml_after_all_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://x"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "m", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(orjson.dumps(config).decode()[:-1] + ", 'current-context': m}")
    assert Connection.from_kubeconfig(path).server == "http://x"
