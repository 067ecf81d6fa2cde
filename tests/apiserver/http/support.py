"""What tests of the HTTP surface share: requests as somebody, kubectl, and a fake agent."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import pki
from sampan.apiserver.http.server import ApiServer
from sampan.apiserver.interface import Call, Place
from sampan.apiserver.registry import StoreRegistry

KUBECTL = Path(__file__).resolve().parents[3] / ".venv" / "bin" / "kubectl"
Verb = Callable[[Object, "aiohttp.ClientWebSocketResponse[bool]"], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass
class Live:
    registry: StoreRegistry
    server: ApiServer
    keys: pki.Pki
    scratch: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.port}"

    @cached_property
    def kubeconfig(self) -> Path:
        path = self.scratch / "kubeconfig"
        pki.write_kubeconfig(path, self.url, self.keys)
        return path

    def tls(self, user: str = "", *groups: str) -> ssl.SSLContext:
        """Trust the server; with *user*, have a client certificate of that name."""
        context = ssl.create_default_context(cadata=self.keys.ca_pem.decode())
        if user:
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = pki.sign(self.keys.ca, key.public_key(), user, groups)
            pair = pki.KeyPair(certificate, key)
            file = self.scratch / f"{user.replace(':', '-')}.pem"
            file.write_bytes(pair.certificate_pem + pair.key_pem)
            context.load_cert_chain(file)
        return context

    @cached_property
    def admin_tls(self) -> ssl.SSLContext:
        return self.tls("system:admin", "system:masters")

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        tls: ssl.SSLContext | None = None,
        **headers: Any,
    ) -> Answer:
        """Ask as the administrator, or with the certificate in *tls*."""
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        sent = data if data is None else io.BytesIO(data)
        wire = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            wire.setdefault("Content-Type", "application/json")
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, self.url + path, data=sent, headers=wire, ssl=tls or self.admin_tls
            ) as response,
        ):
            return Answer(response.status, response.headers, await response.read())

    async def kubectl(self, *arguments: str, stdin: str = "", **environment: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            KUBECTL,
            "--kubeconfig",
            self.kubeconfig,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self.scratch), **environment},
        )
        try:
            async with asyncio.timeout(30):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def make(self, kind: Kind, obj: Object, subresource: str = "") -> Object:
        meta = obj["metadata"]
        place = Place(kind, meta.get("namespace", ""), meta["name"] if subresource else "")
        entry = await self.registry.create(place, obj, Call())
        return entry.object

    async def pod_on(self, node: str, name: str = "web", **meta: Any) -> Object:
        """A Pod of two containers, main and side, that runs on *node*."""
        return await self.make(kinds.PODS, pod(name, node, **meta))

    @asynccontextmanager
    async def agent(self, node: str, **verbs: Verb) -> AsyncIterator[None]:
        """Be the agent of *node*: keep a tunnel, and serve what *verbs* says."""
        tls = self.tls(f"system:node:{node}", "system:nodes")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            control = await session.ws_connect(f"{self.url}/sampan/v1/tunnel")
            await self._connected(node)
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self._serve(session, control, verbs, group))
                yield
                serving.cancel()
                await control.close()

    async def _connected(self, node: str) -> None:
        await until(lambda: node in self.server.connected_nodes())

    async def _serve(
        self,
        session: aiohttp.ClientSession,
        control: "aiohttp.ClientWebSocketResponse[bool]",
        verbs: dict[str, Verb],
        group: asyncio.TaskGroup,
    ) -> None:
        async for message in control:
            asked = orjson.loads(message.data)
            verb = verbs.get(asked["verb"].replace("-", "_"))
            if verb:
                group.create_task(self._dial(session, asked, verb))

    async def _dial(self, session: aiohttp.ClientSession, asked: Object, verb: Verb) -> None:
        async with session.ws_connect(f"{self.url}/sampan/v1/streams/{asked['open']}") as stream:
            await verb(asked["params"], stream)


SUCCESS = '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}'


def pod(name: str, node: str = "", **meta: Any) -> Object:
    container = {"image": "sampan-test/busybox:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **meta},
        "spec": {
            "containers": [{"name": "main", **container}, {"name": "side", **container}],
            **({"nodeName": node} if node else {}),
        },
    }


async def until(condition: Callable[[], bool], *, seconds: float = 5) -> None:
    """Wait for *condition*, looking often; fail after *seconds*."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
