from typing import Any

import pytest

from sampan.testing.clock import VirtualTimeLoop
from tests.apiserver.support import Api, started


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
async def api() -> Api:
    return await started()
