"""What end-to-end tests share: a dev cluster, kubectl, and waiting for conditions."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from sampan.testing.images import oci_archive

BIN = Path(__file__).resolve().parents[2] / ".venv" / "bin"
IMAGE = "sampan-test/busybox:1"
T = TypeVar("T")


def missing() -> str:
    """Why this machine cannot run containers; "" if it can."""
    if os.geteuid() != 0:
        return "end-to-end tests need root"
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [
        p for p in ("containerd", "ctr", "nsenter", "busybox") if not shutil.which(p, path=places)
    ]
    return f"not installed: {', '.join(absent)}" if absent else ""


def wait_until(
    condition: Callable[[], T | Literal[False] | None], *, seconds: float = 30, what: str = ""
) -> T:
    """Ask *condition* until its answer is true; after *seconds* fail with the last one."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            subject = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"not within {seconds} s: {subject} (last: {answer!r})")
        time.sleep(0.05)


def run(
    *command: str, stdin: str | None = None, check: bool = True, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class Kubectl:
    """The real kubectl against one cluster and one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str = "") -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.command = [str(BIN / "kubectl"), "--kubeconfig", str(kubeconfig)]
        if namespace:
            self.command += ["--namespace", namespace]

    def __call__(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        return run(*self.command, *arguments, stdin=stdin, seconds=seconds).stdout

    def result(
        self, *arguments: str, stdin: str | None = None, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Like calling it, but a failure is the caller's to look at."""
        return run(*self.command, *arguments, stdin=stdin, check=False, seconds=seconds)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> str:
        manifest = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return self("apply", "-f", "-", stdin=json.dumps(manifest))

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        found = self.json("get", "pods", *(["-l", selector] if selector else []))
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, selector: str = "") -> list[dict[str, Any]]:
        return [pod for pod in self.pods(selector) if is_ready(pod)]


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class DevCluster:
    """`sampan dev up`, and whatever happens, `sampan dev down`."""

    def __init__(self, name: str, nodes: int, *, options: Sequence[str] = ()) -> None:
        self.name = name
        self.nodes = nodes
        self.options = tuple(options)
        self.data_dir = Path("/var/lib/sampan/dev") / name
        self.run_dir = Path("/run/sampan/dev") / name
        self.kubeconfig = self.data_dir / "server" / "kubeconfig"

    def __enter__(self) -> Self:
        try:
            self.sampan(
                "dev",
                "up",
                "--name",
                self.name,
                "--nodes",
                str(self.nodes),
                "--no-egress",
                *self.options,
            )
            self.load_image(IMAGE)
        except BaseException:
            self.sampan("dev", "down", "--name", self.name, check=False)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sampan("dev", "down", "--name", self.name)

    def sampan(
        self, *arguments: str, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run(str(BIN / "sampan"), *arguments, check=check, stdin=stdin)

    def kubectl(self, namespace: str = "") -> Kubectl:
        return Kubectl(self.kubeconfig, namespace)

    def load_image(self, name: str, **parts: Any) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "image.tar"
            oci_archive(archive, name, **parts)
            self.sampan("image", "load", "--kubeconfig", str(self.kubeconfig), str(archive))

    @staticmethod
    def ctr(socket: str, *arguments: str) -> str:
        return run("ctr", "--address", socket, "--namespace", "k8s.io", *arguments).stdout

    def netns(self, node: str) -> str:
        return f"sampan-{self.name}-{node}"

    def on_node(self, node: str, *command: str, check: bool = True) -> str:
        """Run a command in a node's network namespace."""
        return run(
            "nsenter", f"--net=/run/netns/{self.netns(node)}", "--", *command, check=check
        ).stdout

    def node_addresses(self) -> dict[str, str]:
        return {
            node["metadata"]["name"]: next(
                a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"
            )
            for node in self.kubectl().json("get", "nodes")["items"]
        }


def pod(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A Pod of one container from the test image; *spec* goes into the container."""
    container = {"name": "main", "image": IMAGE, "command": list(command), **spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def deployment(name: str, replicas: int, *command: str, **container: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": IMAGE, "command": list(command), **container}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


SLEEP = ("sleep", "100000")
WEB = ("sh", "-c", "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www")
