"""A real three-node cluster, real containers, the real kubectl.

One cluster serves every test that leaves it as it was; tests that break things make their own.
"""

import os
import shutil
import uuid
from collections.abc import Iterator

import pytest

from tests.e2e.support import DevCluster, Kubectl, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := missing():
        for item in items:
            if item.get_closest_marker("e2e"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster() -> Iterator[DevCluster]:
    with DevCluster(f"t{os.getpid()}", nodes=3) as running:
        yield running


@pytest.fixture
def kubectl(cluster: DevCluster) -> Iterator[Kubectl]:
    """The real kubectl, in a namespace of the test's own."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    everywhere = cluster.kubectl()
    everywhere("create", "namespace", namespace)
    yield cluster.kubectl(namespace)
    everywhere("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Iterator[DevCluster]:
    """A cluster for one test, which may break it.

    `@pytest.mark.parametrize("fresh", [2], indirect=True)` sets its size.
    """
    size = getattr(request, "param", 3)
    with DevCluster(f"f{uuid.uuid4().hex[:5]}", nodes=size) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    if not missing():
        assert shutil.which("nsenter")
