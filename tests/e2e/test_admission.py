"""Admission on a real cluster: a webhook that is a Service, and a quota under a Deployment."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sampan.apiserver import pki
from tests.e2e.support import SLEEP, Kubectl, deployment, pod, wait_until

pytestmark = pytest.mark.e2e


class _Reviewer(BaseHTTPRequestHandler):
    """Denies what is called `bad`, and warns of all else."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        answer: dict[str, Any] = {"uid": request["uid"], "allowed": request["name"] != "bad"}
        answer |= {"warnings": ["seen"], "status": {"message": "a bad name", "code": 403}}
        body = json.dumps({**review, "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def reviewing(address: str, keys: pki.Pki) -> Iterator[int]:
    """Run the webhook's server outside of the cluster; give its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*keys.serving_files)
    with ThreadingHTTPServer((address, 0), _Reviewer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def webhook(namespace: str, bundle: bytes) -> dict[str, Any]:
    service = {"name": "hook", "namespace": namespace}
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"]}  # fmt: skip
    mine = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"hook-{namespace}"},
        "webhooks": [{
            "name": "hook.tests.example.com", "rules": [rule], "namespaceSelector": mine,
            "clientConfig": {"service": service, "caBundle": base64.b64encode(bundle).decode()},
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    }  # fmt: skip


def test_a_webhook_is_reached_by_its_service_from_outside_the_pods_network(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    server = json.loads(kubectl.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    address = urlsplit(server).hostname or ""
    keys = pki.load(tmp_path, names=(f"hook.{kubectl.namespace}.svc",))
    with reviewing(address, keys) as port:
        relay = f"exec nc -ll -p 8443 -e nc {address} {port}"
        kubectl.apply(
            pod("hook", "sh", "-c", relay),
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
             "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 8443}]}},
        )  # fmt: skip
        kubectl("wait", "--for=condition=Ready", "pod/hook", "--timeout=60s")
        kubectl.apply(webhook(kubectl.namespace, keys.ca_pem))
        try:
            made = wait_until(
                lambda: not (r := kubectl.result("create", "configmap", "good")).returncode and r,
                what="the webhook is asked",
            )
            assert "Warning: seen" in made.stderr
            denied = kubectl.result("create", "configmap", "bad")
            assert "denied the request: a bad name" in denied.stderr
        finally:
            kubectl("delete", "validatingwebhookconfiguration", f"hook-{kubectl.namespace}")


def test_a_quota_holds_a_deployment_back_until_it_is_raised(kubectl: Kubectl) -> None:
    kubectl("create", "quota", "q", "--hard=pods=2")
    kubectl.apply(deployment("web", 3, *SLEEP))
    wait_until(lambda: len(kubectl.ready_pods("app=web")) == 2)
    used = kubectl("get", "quota", "q", "-o", "jsonpath={.status.used.pods}")
    assert used == "2"
    kubectl("patch", "quota", "q", "-p", '{"spec":{"hard":{"pods":"3"}}}')
    wait_until(lambda: len(kubectl.ready_pods("app=web")) == 3, seconds=60)
