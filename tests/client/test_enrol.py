"""How a machine becomes a node, against a small server with the cluster's own keys."""

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509

from sampan.apiserver import pki
from sampan.client.enrol import EnrolmentError, enrol


@dataclass
class Joining:
    """The server's side of the join: hands out its CA, and signs for whoever has the token."""

    keys: pki.Pki
    url: str = ""
    ca: bytes = b""
    asked: list[str] = field(default_factory=list)

    def ca_pem(self) -> bytes:
        return self.ca or self.keys.ca_pem

    def join(self, authorization: str, body: dict[str, str]) -> tuple[int, dict[str, str]]:
        if authorization != f"Bearer {self.keys.join_token}":
            return 401, {"message": "the token is not this cluster's"}
        certificate = self.keys.sign_node(body["node"], body["csr"])
        answer = {"certificate": certificate.decode(), "ca": self.keys.ca_pem.decode()}
        facts = {
            "clusterCIDR": "10.42.0.0/16",
            "serviceCIDR": "10.43.0.0/16",
            "dnsIP": "10.43.0.10",
        }
        return 200, answer | facts


def handler(joining: Joining) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            joining.asked.append(self.path)
            self.answer(200, joining.ca_pem())

        def do_POST(self) -> None:
            joining.asked.append(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = joining.join(self.headers["Authorization"], body)
            self.answer(status, json.dumps(answer).encode())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Joining]:
    joining = Joining(pki.load(tmp_path / "server"))
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(joining))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*joining.keys.serving_files)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    joining.url = f"https://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield joining
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_node_gets_a_certificate_for_its_own_key(server: Joining, tmp_path: Path) -> None:
    credentials = enrol(server.url, f"{server.keys.join_token}\n", "n1", tmp_path / "pki")
    certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    assert "CN=system:node:n1" in certificate.subject.rfc4514_string()
    assert "O=system:nodes" in certificate.subject.rfc4514_string()
    context = ssl.create_default_context(cafile=credentials.ca)
    context.load_cert_chain(credentials.certificate, credentials.key)
    assert credentials.key.stat().st_mode & 0o777 == 0o600
    assert credentials.cluster == {
        "clusterCIDR": "10.42.0.0/16",
        "serviceCIDR": "10.43.0.0/16",
        "dnsIP": "10.43.0.10",
    }


def test_who_has_joined_does_not_ask_again(server: Joining, tmp_path: Path) -> None:
    enrol(server.url, server.keys.join_token, "n1", tmp_path / "pki")
    key = (tmp_path / "pki" / "node.key").read_bytes()
    server.asked.clear()
    enrol(server.url, "", "n1", tmp_path / "pki")
    assert server.asked == []
    assert (tmp_path / "pki" / "node.key").read_bytes() == key


def test_the_secret_is_not_sent_to_a_server_with_another_ca(
    server: Joining, tmp_path: Path
) -> None:
    other = pki.load(tmp_path / "other")
    with pytest.raises(EnrolmentError, match="is not the one that made this token"):
        enrol(server.url, other.join_token, "n1", tmp_path / "pki")
    assert server.asked == ["/sampan/v1/ca"]
    assert not (tmp_path / "pki").exists()


def test_a_server_that_shows_a_ca_it_has_no_key_for_gets_no_secret(
    server: Joining, tmp_path: Path
) -> None:
    other = pki.load(tmp_path / "other")
    server.ca = other.ca_pem
    with pytest.raises(EnrolmentError, match="cannot prove that it is this cluster's server"):
        enrol(server.url, other.join_token, "n1", tmp_path / "pki")
    assert server.asked == ["/sampan/v1/ca"]


def test_a_refusal_carries_the_servers_reason(server: Joining, tmp_path: Path) -> None:
    token = server.keys.join_token.rpartition(".")[0] + ".wrong"
    with pytest.raises(EnrolmentError, match="the token is not this cluster's"):
        enrol(server.url, token, "n1", tmp_path / "pki")
    assert not (tmp_path / "pki" / "cluster.json").exists()


def test_what_is_no_sampan_server_is_named(server: Joining, tmp_path: Path) -> None:
    server.ca = b"<html>hello</html>"
    with pytest.raises(EnrolmentError, match="is not a Sampan server"):
        enrol(server.url, server.keys.join_token, "n1", tmp_path / "pki")


@pytest.mark.parametrize("token", ["", "SMP1.short.secret", "K8S." + "0" * 64 + ".secret", "x"])
def test_what_is_no_token_is_refused_before_anything_is_asked(
    server: Joining, tmp_path: Path, token: str
) -> None:
    with pytest.raises(EnrolmentError, match="not a join token"):
        enrol(server.url, token, "n1", tmp_path / "pki")
    assert server.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:6443", "https://"])
def test_what_is_no_url_is_refused(server: Joining, tmp_path: Path, url: str) -> None:
    with pytest.raises(EnrolmentError, match="write https://ADDRESS:6443"):
        enrol(url, server.keys.join_token, "n1", tmp_path / "pki")


def test_a_server_that_never_answers_is_named_when_the_time_is_over(
    server: Joining, tmp_path: Path
) -> None:
    with pytest.raises(EnrolmentError, match=r"https://127.0.0.1:1 does not answer"):
        enrol("https://127.0.0.1:1", server.keys.join_token, "n1", tmp_path / "pki", seconds=0)
