"""PodSecurity: namespaces say by labels what their Pods may do. Pure.

`enforce` refuses Pods, `warn` warns of them and of workloads that would make them; `audit` is
accepted and has no effect, as there is no audit log. Source: Kubernetes, "Pod Security Admission".
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from sampan.api import kinds
from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.apiserver.admission.security_checks import BASELINE, RESTRICTED, Check
from sampan.apiserver.problems import bad_value

LABEL: Final = "pod-security.kubernetes.io/"
LEVELS: Final = ("privileged", "baseline", "restricted")
_MODES: Final = ("enforce", "audit", "warn")
_LATEST: Final = "latest"
_NEWEST: Final = 1 << 30
_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    kinds.DEPLOYMENTS.resource: ("spec", "template"),
    kinds.REPLICA_SETS.resource: ("spec", "template"),
    kinds.STATEFUL_SETS.resource: ("spec", "template"),
    kinds.DAEMON_SETS.resource: ("spec", "template"),
    kinds.REPLICATION_CONTROLLERS.resource: ("spec", "template"),
    kinds.JOBS.resource: ("spec", "template"),
    kinds.CRON_JOBS.resource: ("spec", "jobTemplate", "spec", "template"),
    "podtemplates": ("template",),
}


class Standard(Struct, frozen=True):
    """A level as of a version of Kubernetes, written `restricted:latest`."""

    level: str = "privileged"
    version: str = _LATEST

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"

    @property
    def checks(self) -> list[Check]:
        if self.level not in LEVELS[1:]:
            return []
        minor = int(self.version.removeprefix("v1.")) if self.version != _LATEST else _NEWEST
        base = [check for check in BASELINE if check.since <= minor]
        if self.level == "baseline":
            return base
        strict = [check for check in RESTRICTED if check.since <= minor]
        replaced = {check.replaces for check in strict}
        return [check for check in base if check.reason not in replaced] + strict


def has_say(namespace: Object) -> bool:
    """Whether *namespace* says anything about security at all."""
    labels = namespace["metadata"].get("labels") or {}
    return any(key.startswith(LABEL) for key in labels)


def standard(namespace: Object, mode: str) -> Standard:
    """What *namespace* says for *mode*; what it says wrongly is taken at its strictest."""
    labels = namespace["metadata"].get("labels") or {}
    level = labels.get(LABEL + mode, "privileged")
    version = labels.get(f"{LABEL}{mode}-version", _LATEST)
    return Standard(
        level if level in LEVELS else "restricted", version if _is_version(version) else _LATEST
    )


def violations(meta: Object, spec: Object, wanted: Standard) -> list[tuple[str, str]]:
    """Reasons and details of what a Pod, or a Pod's template, has that *wanted* forbids."""
    windows = (spec.get("os") or {}).get("name") == "windows"
    return [
        (check.reason, detail)
        for check in wanted.checks
        if not (windows and check.linux_only) and (detail := check.find(meta, spec))
    ]


def told(found: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{reason} ({detail})" for reason, detail in found)


def template(resource: str, obj: Object) -> Object | None:
    """The Pod template in an object of *resource*, if it has one."""
    if (path := _TEMPLATES.get(resource)) is None:
        return None
    found = obj
    for part in path:
        found = found.get(part) or {}
    return found or None


def refusal(namespace: Object, pod: Object) -> str:
    """Why *namespace* does not take *pod*, or ""."""
    wanted = standard(namespace, "enforce")
    found = violations(pod["metadata"], pod.get("spec") or {}, wanted)
    return f'violates PodSecurity "{wanted}": {told(found)}' if found else ""


def warning(namespace: Object, pod: Object) -> str:
    """What *namespace* warns of in *pod*, a Pod or a Pod template, or ""."""
    wanted = standard(namespace, "warn")
    found = violations(pod.get("metadata") or {}, pod.get("spec") or {}, wanted)
    return f'would violate PodSecurity "{wanted}": {told(found)}' if found else ""


def validate_labels(namespace: Object) -> Iterator[Cause]:
    labels = namespace["metadata"].get("labels") or {}
    for mode in _MODES:
        key = LABEL + mode
        if labels.get(key, "privileged") not in LEVELS:
            why = f"must be one of {', '.join(LEVELS)}"
            yield bad_value(f"metadata.labels[{key}]", labels[key], why)
        key += "-version"
        if not _is_version(labels.get(key, _LATEST)):
            why = 'must be "latest" or "v1.x"'
            yield bad_value(f"metadata.labels[{key}]", labels[key], why)


def _is_version(text: str) -> bool:
    minor = text.removeprefix("v1.")
    return text == _LATEST or (minor != text and minor.isascii() and minor.isdigit())


def tightened(old: Object, new: Object, pods: Iterable[Object]) -> list[str]:
    """Warnings of Pods that are there and that the new labels of their namespace forbid."""
    wanted = standard(new, "enforce")
    if wanted == standard(old, "enforce"):
        return []
    names: dict[str, list[str]] = {}
    for pod in pods:
        found = violations(pod["metadata"], pod["spec"], wanted)
        if found:
            why = ", ".join(reason for reason, _ in found)
            names.setdefault(why, []).append(pod["metadata"]["name"])
    if not names:
        return []
    space = new["metadata"]["name"]
    lead = f'existing pods in namespace "{space}" violate the new PodSecurity enforce level'
    return [f'{lead} "{wanted}"', *sorted(f"{_some(who)}: {why}" for why, who in names.items())]


def _some(names: list[str]) -> str:
    first, others = min(names), len(names) - 1
    if not others:
        return first
    return f"{first} (and {others} other pod{'s' if others > 1 else ''})"
