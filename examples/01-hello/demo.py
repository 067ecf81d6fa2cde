"""The demonstration behind `make demo`: three nodes, one Compose file, real requests.

Everything it does is a command that it prints first, so that you can type it yourself.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BIN = HERE.parents[1] / ".venv" / "bin"
CLUSTER = os.environ.get("SAMPAN_DEMO", "demo")  # another name leaves a running demo alone
KUBECONFIG = f"/var/lib/sampan/dev/{CLUSTER}/server/kubeconfig"
PORT = 8080
CALLS = 12


def main() -> None:
    verbs = {"up": up, "down": down}
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:  # noqa: PLR2004 - the verb and nothing else
        sys.exit(f"usage: demo.py {'|'.join(verbs)}")
    verbs[sys.argv[1]]()


def up() -> None:
    began = time.monotonic()
    run("sampan", "doctor", "--quiet")
    run("sampan", "dev", "up", "--nodes", "3", "--name", CLUSTER)
    archive = build_image()
    run("sampan", "image", "load", "--kubeconfig", KUBECONFIG, archive)
    run("sampan", "up", "--kubeconfig", KUBECONFIG, "-f", str(HERE / "compose.yaml"))
    show_answers()
    print(f"\nUp in {time.monotonic() - began:.0f} s, and left running. What to try next:\n")
    for command, why in NEXT:
        print(f"  {command:<62} # {why}")


def down() -> None:
    run("sampan", "dev", "down", "--name", CLUSTER)


def run(program: str, *arguments: str) -> None:
    print(f"\n$ {program} {' '.join(shorten(argument) for argument in arguments)}", flush=True)
    finished = subprocess.run([str(BIN / program), *arguments], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def shorten(argument: str) -> str:
    try:
        return str(Path(argument).relative_to(Path.cwd()))
    except ValueError:
        return argument


def build_image() -> str:
    """Make the example's image from busybox and three small files: no registry, no download."""
    from sampan.testing.images import oci_archive  # noqa: PLC0415 - only after `make setup`

    archive = HERE / "hello.tar"
    files = {
        "www/cgi-bin/index.cgi": (HERE / "image" / "index.cgi").read_bytes(),
        "www/healthy": b"yes\n",
        "quotes/.keep": b"",
    }
    oci_archive(
        archive, "sampan-example/hello:1", files=files, executable=("www/cgi-bin/index.cgi",)
    )
    return str(archive)


def show_answers() -> None:
    nodes = pod_nodes()
    print(f"\nCalling the Service from outside, on port {PORT} of each node in turn:")
    seen: Counter[str] = Counter()
    for address in node_addresses(CALLS):
        text = get(f"http://{address}:{PORT}/")
        pod = text.split(":", 1)[0].rpartition(" ")[2]
        seen[nodes.get(pod, "?")] += 1
        print(f"  {address}:{PORT}  ->  {text}   [{nodes.get(pod, '?')}]")
    if len(seen) < 2:  # noqa: PLR2004 - "different nodes" means two at least
        sys.exit(f"all answers came from one node ({seen}): that is not load balancing")
    print("Answers by node: " + ", ".join(f"{node} {n}" for node, n in sorted(seen.items())))


def pod_nodes() -> dict[str, str]:
    pods = kubectl("get", "pods", "-n", "hello", "-o", "json")["items"]
    return {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in pods}


def node_addresses(count: int) -> Iterator[str]:
    nodes = kubectl("get", "nodes", "-o", "json")["items"]
    addresses = [
        address["address"]
        for node in nodes
        for address in node["status"]["addresses"]
        if address["type"] == "InternalIP"
    ]
    for turn in range(count):
        yield addresses[turn % len(addresses)]


def kubectl(*arguments: str) -> Any:
    command = [str(BIN / "kubectl"), "--kubeconfig", KUBECONFIG, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def get(url: str, seconds: float = 10) -> str:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode().strip())
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"{url} does not answer: {error}")
            time.sleep(0.1)


_ENV = f"export KUBECONFIG={KUBECONFIG} PATH=$PWD/.venv/bin:$PATH"
NEXT = (
    (_ENV, "then:"),
    ("kubectl get pods -A -o wide", "what runs where"),
    ("sampan ps --project hello", "the same, as an application"),
    ("sampan logs -f --project hello", "all replicas' logs in one stream"),
    ("kubectl -n hello scale deployment web --replicas 6", "more replicas"),
    ("kubectl -n hello exec -it deploy/web -- sh", "a shell inside"),
    ("make demo-down", "remove every trace"),
)

if __name__ == "__main__":
    main()
