"""`sampan up`, `ps`, `logs` and `down` on a real cluster."""

import subprocess
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest

from tests.e2e.support import BIN, IMAGE, DevCluster, wait_until
from tests.e2e.test_network import outside

pytestmark = pytest.mark.e2e

FILE = """
services:
  web:
    image: {image}
    command: ["sh", "-c", "mkdir /www; cp /etc/page /www/index.html; echo serving; exec httpd -f -p 80 -h /www"]
    ports: ["{port}:80"]
    depends_on:
      db: {{condition: service_healthy}}
    healthcheck: {{test: "wget -q -O /dev/null http://127.0.0.1/", interval: 1s}}
    deploy: {{replicas: 2}}
    environment: {{SECRET_FILE: /run/secrets/key}}
    configs: [{{source: page, target: /etc/page}}]
    secrets: [key]
  db:
    image: {image}
    command: ["sh", "-c", "sleep 1; touch /ready; echo open; exec sleep 100000"]
    healthcheck: {{test: ["CMD", "test", "-e", "/ready"], interval: 1s, retries: 30}}
    tmpfs: ["/scratch"]
configs:
  page: {{content: "hello from {port}"}}
secrets:
  key: {{file: ./key.txt}}
"""  # noqa: E501 - one command is one line


class Stack:
    def __init__(self, cluster: DevCluster, directory: Path) -> None:
        self.cluster = cluster
        self.project = f"s{uuid.uuid4().hex[:6]}"
        self.file = directory / "compose.yaml"
        self.port = 18000 + uuid.uuid4().int % 1000
        (directory / "key.txt").write_text("s3cret")
        self.file.write_text(FILE.format(image=IMAGE, port=self.port))

    def __call__(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        known = ["--kubeconfig", str(self.cluster.kubeconfig), "--project", self.project]
        file = ["-f", str(self.file)] if verb == "up" else []
        return self.cluster.sampan(verb, *known, *file, *arguments, check=False)


@pytest.fixture
def stack(cluster: DevCluster, tmp_path: Path) -> Iterator[Stack]:
    made = Stack(cluster, tmp_path)
    yield made
    made("down")


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_file_comes_up_in_order_and_goes_down_again(cluster: DevCluster, stack: Stack) -> None:
    ok(stack("up"))
    kubectl = cluster.kubectl(stack.project)
    [db], web = (
        kubectl.ready_pods("sampan.io/service=db"),
        kubectl.ready_pods("sampan.io/service=web"),
    )
    assert len(web) == 2
    ready_at = next(
        c["lastTransitionTime"] for c in db["status"]["conditions"] if c["type"] == "Ready"
    )
    for replica in web:
        [status] = replica["status"]["containerStatuses"]
        assert status["state"]["running"]["startedAt"] >= ready_at
    for address in cluster.node_addresses().values():
        assert wait_until(partial(outside, address, stack.port)) == f"hello from {stack.port}"
    secret = ("exec", web[0]["metadata"]["name"], "--", "sh", "-c", "cat $SECRET_FILE")
    assert kubectl(*secret) == "s3cret"
    listed = ok(stack("ps"))
    assert "web" in listed
    assert "node-" in listed
    assert "open" in ok(stack("logs", "db"))
    assert "serving" in ok(stack("logs"))
    ok(stack("up"))
    assert {p["metadata"]["uid"] for p in kubectl.pods()} == {
        p["metadata"]["uid"] for p in (db, *web)
    }
    ok(stack("down"))
    assert "NotFound" in kubectl.result("get", "namespace", stack.project).stderr


def test_a_service_taken_out_of_the_file_goes(cluster: DevCluster, stack: Stack) -> None:
    stack.file.write_text(
        dedent(f"""
        services:
          one: {{image: "{IMAGE}", command: [sleep, "100000"]}}
          two: {{image: "{IMAGE}", command: [sleep, "100000"]}}
        """)
    )
    ok(stack("up"))
    stack.file.write_text(
        dedent(f"""
        services:
          one: {{image: "{IMAGE}", command: [sleep, "100000"]}}
        """)
    )
    ok(stack("up"))
    kubectl = cluster.kubectl(stack.project)
    wait_until(lambda: len(kubectl.pods()) == 1, what="only one service left")


def test_a_key_that_is_not_handled_is_refused_by_name_and_line(stack: Stack) -> None:
    stack.file.write_text(f"services:\n  a:\n    image: {IMAGE}\n    isolation: hyperv\n")
    refused = stack("up")
    assert refused.returncode != 0
    assert "compose.yaml:4" in refused.stderr
    assert "isolation" in refused.stderr


def test_a_release_that_never_gets_ready_fails_with_its_last_words(stack: Stack) -> None:
    stack.file.write_text(
        "services:\n  a:\n"
        f"    image: {IMAGE}\n"
        '    command: ["sh", "-c", "echo cannot find the database; exit 4"]\n'
    )
    failed = stack("up", "--timeout", "8")
    assert failed.returncode != 0
    assert "cannot find the database" in failed.stdout + failed.stderr


def test_logs_follow(stack: Stack) -> None:
    ok(stack("up"))
    known = ["--kubeconfig", str(stack.cluster.kubeconfig), "--project", stack.project]
    command = [str(BIN / "sampan"), "logs", "-f", *known]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        try:
            seen: list[str] = []
            for line in follower.stdout or ():
                seen.append(line)
                if sum("serving" in shown for shown in seen) == 2:
                    break
        finally:
            follower.kill()
    assert len({line.split()[0] for line in seen if "serving" in line}) == 2
