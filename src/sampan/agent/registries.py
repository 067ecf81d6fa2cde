"""Registries that speak plain HTTP: common in private networks, never used on the internet.

containerd 1.6 asks every registry but localhost by HTTPS only, unless a directory named after it
says otherwise. So before a pull from a private address that directory is made: HTTPS is still tried
first. Whatever an administrator wrote in /etc/containerd/certs.d counts instead.
"""

import ipaddress
from pathlib import Path
from typing import Any

from sampan.agent.cri import CriRuntime
from sampan.agent.runtime import Auth, SandboxConfig
from sampan.api.images import DOCKER_HUB, normalised


class NodeRuntime(CriRuntime):
    """CRI on this node, with private registries reachable by plain HTTP."""

    def __init__(self, channel: Any, registries: Path) -> None:
        super().__init__(channel)
        self._registries = registries

    async def pull(self, name: str, auth: Auth | None, sandbox: SandboxConfig | None) -> None:
        permit_plain_http(self._registries, name)
        await super().pull(name, auth, sandbox)


def permit_plain_http(directory: Path, image: str) -> None:
    """Let containerd fall back to plain HTTP for the image's registry if that is private."""
    registry = normalised(image).partition("/")[0]
    if not is_private(registry):
        return
    hosts = directory / registry / "hosts.toml"
    if hosts.exists():
        return
    hosts.parent.mkdir(parents=True, exist_ok=True)
    hosts.write_text(
        f'server = "https://{registry}"\n[host."https://{registry}"]\n[host."http://{registry}"]\n'
    )


def is_private(registry: str) -> bool:
    """Whether *registry* (host or host:port) is an address or name that only a private net has."""
    host = registry.rpartition(":")[0] if _has_port(registry) else registry
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return registry != DOCKER_HUB and (
            "." not in host or host.endswith((".local", ".internal"))
        )
    return address.is_private


def _has_port(registry: str) -> bool:
    return registry.rpartition(":")[2].isdecimal() and not registry.endswith("]")
