"""Into running containers and out again: port-forward, cp, attach, run -i and the HTTP proxy."""

import contextlib
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import IMAGE, WEB, Kubectl, pod

pytestmark = pytest.mark.e2e


@contextlib.contextmanager
def port_forward(kubectl: Kubectl, target: str, port: int) -> Iterator[str]:
    """Yield the URL of a local port that leads to *port* of *target*."""
    process = subprocess.Popen(
        [*kubectl.command, "port-forward", target, f":{port}", "--address=127.0.0.1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        line = process.stdout.readline()
        yield f"http://{line.split()[2]}/"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def running(kubectl: Kubectl, wanted: dict[str, object]) -> None:
    kubectl.apply(wanted)
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")


def test_ports_of_pods_and_services_are_forwarded(kubectl: Kubectl) -> None:
    running(kubectl, pod("web", *WEB))
    kubectl("expose", "pod", "web", "--port=80", "--target-port=8080")
    for target, port in (("pod/web", 8080), ("service/web", 80)):
        with port_forward(kubectl, target, port) as url:
            answers = [urllib.request.urlopen(url, timeout=10).read() for _ in range(3)]  # noqa: S310
        assert answers == [b"web\n"] * 3


def test_http_is_proxied_to_pods_and_services(kubectl: Kubectl) -> None:
    running(kubectl, pod("web", *WEB))
    kubectl("expose", "pod", "web", "--port=80", "--target-port=8080")
    place = f"/api/v1/namespaces/{kubectl.namespace}"
    assert kubectl("get", "--raw", f"{place}/pods/web:8080/proxy/index.html") == "web\n"
    kubectl("wait", "--for=jsonpath={.endpoints[0].conditions.ready}=true", "endpointslices",
            "-l", "kubernetes.io/service-name=web", "--timeout=10s")  # fmt: skip
    assert kubectl("get", "--raw", f"{place}/services/web/proxy/") == "web\n"


def test_files_are_copied_in_and_out(kubectl: Kubectl, tmp_path: Path) -> None:
    running(kubectl, pod("web", *WEB))
    (tmp_path / "in").write_bytes(bytes(range(256)) * 1000)
    kubectl("cp", str(tmp_path / "in"), "web:/tmp/there")
    kubectl("cp", "web:/tmp/there", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_attach_talks_to_the_containers_own_process(kubectl: Kubectl) -> None:
    running(kubectl, pod("web", "sh", "-c", "read x; echo got $x", stdin=True, stdinOnce=True))
    assert kubectl("attach", "-i", "web", stdin="hello\n") == "got hello\n"


def test_run_with_stdin_gives_back_what_the_process_says(kubectl: Kubectl) -> None:
    said = kubectl(
        "run", "once", f"--image={IMAGE}", "-i", "--rm", "--restart=Never", "--", "cat",
        stdin="piped\n",
    )  # fmt: skip
    assert said.startswith("piped\n")
