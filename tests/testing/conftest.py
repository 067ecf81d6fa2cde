import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sampan.testing.clock import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Callable[[], asyncio.AbstractEventLoop] | Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}
