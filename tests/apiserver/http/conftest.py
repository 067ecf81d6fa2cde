"""A live API server on loopback, over the memory store, and the real kubectl."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sampan.apiserver import pki
from sampan.apiserver.http.server import ApiServer, ApiServerSettings
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.store.memory import MemoryStore
from tests.apiserver.http.support import Live


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.load(tmp_path_factory.mktemp("server"))


@pytest.fixture
async def live(keys: pki.Pki, tmp_path: Path) -> AsyncIterator[Live]:
    registry = StoreRegistry(MemoryStore(), Settings())
    await registry.start()
    settings = ApiServerSettings(data_dir=tmp_path, listen=("127.0.0.1",), port=0)
    server = ApiServer(registry, keys, settings)
    async with server.serving():
        yield Live(registry, server, keys, tmp_path)
