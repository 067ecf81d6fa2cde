"""What a Pod's first start waits for, in words."""

from typing import Any

import pytest

from sampan.agent.after import awaited, awaited_services
from sampan.api.objects import EndpointSlice
from tests.agent.situations import make_pod


def piece(service: str, *ready: bool) -> EndpointSlice:
    return EndpointSlice.of(
        {
            "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
            "endpoints": [{"addresses": ["10.42.0.9"], "conditions": {"ready": r}} for r in ready],
        }
    )


def waiting(annotation: str, *slices: EndpointSlice) -> str:
    pod = make_pod(meta={"annotations": {"sampan.io/after": annotation}})
    return awaited(pod, slices)


@pytest.mark.parametrize(
    ("annotation", "slices", "words"),
    [
        ("", [], ""),
        ("db=ready", [], "waiting for db: it has no endpoints yet"),
        ("db", [piece("db", False, False)], "waiting for db: 0 of 2 endpoints ready"),
        ("db=ready", [piece("db", False, True)], ""),
        ("db=ready", [piece("db", False), piece("db", True)], ""),
        ("db=started", [piece("db", False)], ""),
        ("db=started", [piece("cache", True)], "waiting for db: it has no endpoints yet"),
        (
            "db=ready, cache=started",
            [piece("db", False)],
            "waiting for db: 0 of 1 endpoints ready; waiting for cache: it has no endpoints yet",
        ),
    ],
)
def test_a_pod_says_what_it_waits_for(annotation: str, slices: Any, words: str) -> None:
    assert waiting(annotation, *slices) == words


def test_a_pod_without_the_annotation_waits_for_nothing() -> None:
    assert awaited_services(make_pod()) == {}
