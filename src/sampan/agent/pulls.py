"""Images: whether they are here, and getting them from a registry once however many Pods wait."""

import logging
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from sampan.agent.env import Reference, contents
from sampan.agent.flight import SingleFlight
from sampan.agent.runtime import Auth, Image, Runtime, RuntimeFailure
from sampan.api.images import DOCKER_HUB, normalised
from sampan.api.objects import Object

HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_CONFIGS: Final = (".dockerconfigjson", ".dockercfg")

log = logging.getLogger(__name__)


class Images:
    """The node's images, remembered by name so that a Pod's start need not ask."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[str, Image] = {}
        self._pulls: SingleFlight[tuple[str, tuple[Auth, ...]], Image] = SingleFlight()

    async def find(self, name: str) -> Image | None:
        """Return the image if this node has it."""
        full = normalised(name)
        if known := self._known.get(full):
            return known
        found = await self._runtime.image(full)
        if found:
            self._known[full] = found
        return found

    def forget(self, name: str = "") -> None:
        """Ask the runtime again about *name*, or about all."""
        if name:
            self._known.pop(normalised(name), None)
        else:
            self._known.clear()

    async def pull(self, name: str, credentials: Sequence[Auth]) -> Image:
        """Get the image from its registry; raise RuntimeFailure with the registry's words."""
        full = normalised(name)
        key = (full, tuple(credentials))
        return await self._pulls.do(key, lambda: self._pull(full, credentials))

    async def _pull(self, full: str, credentials: Sequence[Auth]) -> Image:
        for auth in credentials[:-1]:
            try:
                await self._runtime.pull(full, auth, None)
                break
            except RuntimeFailure as error:
                log.info("%s: refused with the credentials of %s: %s", full, auth.username, error)
        else:
            await self._runtime.pull(full, credentials[-1] if credentials else None, None)
        self.forget(full)
        if (image := await self.find(full)) is None:
            raise RuntimeFailure(f"the runtime pulled {full} but does not show it")
        return image


def credentials(name: str, secrets: Iterable[Object]) -> list[Auth]:
    """Return what *secrets*, in the forms of Docker's tools, say of the image's registry."""
    registry = normalised(name).partition("/")[0]
    found = []
    for secret in secrets:
        for key in _CONFIGS:
            if data := contents("secret", secret).get(key):
                found += _matching(registry, _entries(data))
    return found


def pull_references(names: Iterable[str]) -> list[Reference]:
    return [Reference("secret", name) for name in names]


def _entries(data: bytes) -> Mapping[str, Object]:
    try:
        config = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return {}
    auths = config.get("auths", config) if isinstance(config, dict) else {}
    return {server: entry for server, entry in auths.items() if isinstance(entry, dict)}


def _matching(registry: str, entries: Mapping[str, Object]) -> list[Auth]:
    return [_auth(server, entry) for server, entry in entries.items() if _same(registry, server)]


def _same(registry: str, server: str) -> bool:
    host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return host == registry or (host in HUB_NAMES and registry in HUB_NAMES)


def _auth(server: str, entry: Object) -> Auth:
    user, password = entry.get("username") or "", entry.get("password") or ""
    if not user and (joined := entry.get("auth")):
        user, _, password = b64decode(joined).decode(errors="replace").partition(":")
    return Auth(
        username=user,
        password=password,
        server_address=server,
        identity_token=entry.get("identitytoken") or "",
        registry_token=entry.get("registrytoken") or "",
    )
