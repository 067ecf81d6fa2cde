"""What the sessions share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

NAMESPACE = os.environ["NAMESPACE"]
E = TypeVar("E", bound=Exception)


def deployment(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "app"}]},
            },
        },
    }


@contextmanager
def refused(kind: type[E]) -> Iterator[list[E]]:
    """Demand that the block raises *kind*; the list gets what it raised."""
    raised: list[E] = []
    try:
        yield raised
    except kind as error:
        raised.append(error)
    else:
        raise AssertionError(f"no {kind.__name__} was raised")
