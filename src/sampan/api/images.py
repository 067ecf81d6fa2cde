"""Image names as containerd and CRI compare them: with registry, path, and tag or digest."""

from typing import Final

DOCKER_HUB: Final = "docker.io"


def normalised(name: str) -> str:
    """Write *name* in full: `web` is `docker.io/library/web:latest`."""
    registry, slash, rest = name.partition("/")
    if not slash or not _is_registry(registry):
        registry, rest = DOCKER_HUB, name
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in rest:
        rest = f"library/{rest}"
    if "@" not in rest and ":" not in rest:
        rest += ":latest"
    return f"{registry}/{rest}"


def _is_registry(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost" or text != text.lower()
