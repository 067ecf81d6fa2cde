"""A cluster in one process that real clients reach over HTTPS: only its containers are pretended.

The real API server, controllers, scheduler and agents run in a thread with a loop of their own, in
real time, so that clients may be programs, synchronous libraries or libraries with loops.
"""

import asyncio
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from sampan.apiserver import pki
from sampan.apiserver.http.server import ApiServer, ApiServerSettings
from sampan.testing.cluster import cluster
from sampan.testing.runtime import Behaviour

TOOLS = Path(__file__).resolve().parents[2] / ".venv" / "bin"
IMAGES = {"app": Behaviour(), "task": Behaviour(runs_for=0.1)}
_PATIENCE = 60


@dataclass
class Live:
    """Where the cluster is, once `ready`; *stop* ends it."""

    base: Path
    kubeconfig: Path
    ready: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event | None = None

    def serve(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        keys = pki.load(self.base / "server")
        settings = ApiServerSettings(data_dir=self.base, listen=("127.0.0.1",), port=0)
        async with cluster(self.base, nodes=2, images=IMAGES) as running:
            server = ApiServer(running.registry, keys, settings)
            async with server.serving():
                self.url = f"https://127.0.0.1:{server.port}"
                pki.write_kubeconfig(self.kubeconfig, self.url, keys)
                self.ready.set()
                await self._stop.wait()

    def stop(self) -> None:
        if self._loop and self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    base = tmp_path_factory.mktemp("live")
    (base / "server").mkdir()
    running = Live(base, base / "kubeconfig")
    thread = threading.Thread(target=running.serve, name="cluster")
    thread.start()
    try:
        assert running.ready.wait(_PATIENCE), "the cluster did not come up"
        yield running
    finally:
        running.stop()
        thread.join(_PATIENCE)


@dataclass(frozen=True)
class Tools:
    """The real kubectl and helm, in one namespace."""

    live: Live
    namespace: str
    home: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return {"HOME": str(self.home), "KUBECONFIG": str(self.live.kubeconfig), "PATH": "/usr/bin"}

    def attempt(
        self, tool: str, *words: str, stdin: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [TOOLS / tool, *words, "--namespace", self.namespace],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env={**self.environment, **environment},
            check=False,
        )

    def kubectl(self, *words: str, stdin: str = "") -> str:
        return self._done(self.attempt("kubectl", *words, stdin=stdin))

    def helm(self, *words: str) -> str:
        return self._done(self.attempt("helm", *words))

    def _done(self, ran: "subprocess.CompletedProcess[str]") -> str:
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return ran.stdout


@pytest.fixture
def tools(live: Live, tmp_path: Path) -> Iterator[Tools]:
    if not all(os.access(TOOLS / name, os.X_OK) for name in ("kubectl", "helm")):
        pytest.skip("the real kubectl and helm are not here: make setup")
    made = Tools(live, f"t-{uuid.uuid4().hex[:8]}", tmp_path)
    made.kubectl("create", "namespace", made.namespace)
    # Tokens are made by the HTTP surface, which the agents of this cluster do not go through.
    made.kubectl("patch", "sa", "default", "-p", '{"automountServiceAccountToken":false}')
    yield made
    made.kubectl("delete", "namespace", made.namespace, "--wait=false")
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def namespace(tools: Tools) -> str:
    return tools.namespace
