"""A Compose healthcheck as Kubernetes probes.

While it starts, a replica is asked every second (or every `start_interval`), so that it takes part
as soon as it can. It is restarted if it has not once been healthy in `start_period` and all
`retries`, and never before a minute is over: Docker does not restart it at all. From then on the
check decides about traffic and, when it has failed often enough, about a restart.
"""

import math
from typing import Any, Final

from sampan.compose import units
from sampan.compose.document import Node

Object = dict[str, Any]
INTERVAL: Final = 30
RETRIES: Final = 3
PATIENCE: Final = 60


def probes_of(service: Node) -> Object:
    """The probes of a container; none without a healthcheck, or with one that is turned off."""
    check = service.get("healthcheck")
    if check is None or ((disable := check.get("disable")) and disable.flag()):
        return {}
    command = _command(check)
    if not command:
        return {}
    interval = _duration(check, "interval", INTERVAL)
    retries = _retries(check)
    every = _duration(check, "start_interval", 1)
    patience = max(PATIENCE, _duration(check, "start_period", 0) + interval * retries)
    shared = {"exec": {"command": command}, "timeoutSeconds": _duration(check, "timeout", INTERVAL)}
    steady = {**shared, "periodSeconds": interval, "failureThreshold": retries}
    starting = {
        **shared,
        "periodSeconds": every,
        "failureThreshold": math.ceil(patience / every),
    }
    return {"startupProbe": starting, "readinessProbe": steady, "livenessProbe": dict(steady)}


def _command(check: Node) -> list[str]:
    test = check.get("test")
    if test is None:
        check.fail("`test` is missing: the checks of images are not read, so write it here")
    if not isinstance(test.value, list):
        return ["/bin/sh", "-c", test.text()]
    words = test.texts()
    if words == ["NONE"]:
        return []
    if words[:1] == ["CMD"] and words[1:]:
        return words[1:]
    if words[:1] != ["CMD-SHELL"] or len(words) != 2:  # noqa: PLR2004 - the word and one script
        test.fail('write ["CMD", PROGRAM, ARGUMENTS...], ["CMD-SHELL", SCRIPT] or ["NONE"]')
    return ["/bin/sh", "-c", words[1]]


def _duration(check: Node, key: str, default: int) -> int:
    node = check.get(key)
    return units.whole_seconds(node, least=0 if key == "start_period" else 1) if node else default


def _retries(check: Node) -> int:
    node = check.get("retries")
    return max(1, node.integer()) if node else RETRIES
