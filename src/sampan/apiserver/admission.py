"""Admission: what other objects decide about a new one.

Deciding is pure; the shell around it reads the namespace, the ServiceAccount and the priority
classes that a decision needs. Kubernetes also gives every Pod a toleration of 300 seconds for dead
nodes; here the taint eviction controller knows what a Pod tolerates that says nothing, so that
Pods of a dead node are replaced in seconds.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from sampan.api import kinds
from sampan.api.errors import Cause, Forbidden
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.metadata import random_suffix
from sampan.apiserver.problems import forbidden, not_found
from sampan.apiserver.reading import Reader

DEFAULT_ACCOUNT: Final = "default"
TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
ROOT_CA: Final = "kube-root-ca.crt"
SYSTEM_PRIORITIES: Final = {
    "system-cluster-critical": 2_000_000_000,
    "system-node-critical": 2_000_001_000,
}
_TOKEN_SECONDS: Final = 3607
_MIRROR: Final = "kubernetes.io/config.mirror"
_PREEMPT: Final = "PreemptLowerPriority"


class Admission:
    """*furnish* gives a namespace what every namespace has, where it is missing."""

    def __init__(self, reader: Reader, furnish: Callable[[str], Awaitable[None]]) -> None:
        self._reader = reader
        self._furnish = furnish

    async def admit(self, kind: Kind, obj: Object) -> None:
        """Complete *obj*, which is about to be created, or raise why it may not be."""
        if kind.namespaced:
            await self._namespace(kind, obj)
        if kind.kind == "Pod" and not kind.group:
            account = await self._account(obj)
            add_account(obj, account)
            classes = await self._reader.all(kinds.PRIORITY_CLASSES)
            set_priority(obj, classes)

    async def _namespace(self, kind: Kind, obj: Object) -> None:
        name = obj["metadata"]["namespace"]
        found = await self._reader.find(kinds.NAMESPACES, "", name)
        if found is None:
            raise not_found(kinds.NAMESPACES, name)
        if found.object["metadata"].get("deletionTimestamp"):
            raise terminating(kind, obj["metadata"].get("name", ""), name)

    async def _account(self, pod: Object) -> Object:
        namespace = pod["metadata"]["namespace"]
        name = pod["spec"].get("serviceAccountName") or DEFAULT_ACCOUNT
        found = await self._reader.find(kinds.SERVICE_ACCOUNTS, namespace, name)
        if found is None and name == DEFAULT_ACCOUNT:
            await self._furnish(namespace)
            found = await self._reader.find(kinds.SERVICE_ACCOUNTS, namespace, name)
        if found is None:
            raise forbidden(
                kinds.PODS,
                pod["metadata"].get("name", ""),
                f"error looking up service account {namespace}/{name}: serviceaccount "
                f'"{name}" not found',
            )
        return found.object


def terminating(kind: Kind, name: str, namespace: str) -> Forbidden:
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = forbidden(kind, name, why)
    cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated",
                  "metadata.namespace")  # fmt: skip
    return Forbidden(error.message, causes=(cause,), details=error.details)


def add_account(pod: Object, account: Object) -> None:
    """Let *pod* run as *account*, with its token mounted unless one of them refuses that."""
    spec, name = pod["spec"], account["metadata"]["name"]
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    if secrets := account.get("imagePullSecrets"):
        spec.setdefault("imagePullSecrets", secrets)
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken", True)
    if wanted and _MIRROR not in (pod["metadata"].get("annotations") or {}):
        _mount_token(spec)


def _mount_token(spec: Object) -> None:
    without = [c for c in _containers(spec) if not _mounts_token(c)]
    if not without:
        return
    name = f"kube-api-access-{random_suffix()}"
    mount = {"mountPath": TOKEN_PATH, "name": name, "readOnly": True}
    for container in without:
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
    spec["volumes"] = [*(spec.get("volumes") or ()), token_volume(name)]


def _containers(spec: Object) -> Iterable[Object]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _mounts_token(container: Object) -> bool:
    return any(m.get("mountPath") == TOKEN_PATH for m in container.get("volumeMounts") or ())


def token_volume(name: str) -> Object:
    namespace = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                 "path": "namespace"}  # fmt: skip
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": ROOT_CA}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"defaultMode": 0o644, "sources": sources}}


def set_priority(pod: Object, classes: Iterable[Object]) -> None:
    """Set the priority that the Pod's class, or else the default class, has."""
    spec = pod["spec"]
    found = _priority_class(pod, classes)
    value = found["value"] if found else 0
    if spec.get("priority") not in (None, value):
        raise forbidden(
            kinds.PODS,
            pod["metadata"].get("name", ""),
            f"the integer value of priority ({spec['priority']}) must not be provided in pod "
            f"spec; priority admission controller computed {value} from the given "
            "PriorityClass name",
        )
    spec["priority"] = value
    if found:
        spec["priorityClassName"] = found["metadata"]["name"]
    spec.setdefault("preemptionPolicy", (found or {}).get("preemptionPolicy") or _PREEMPT)


def _priority_class(pod: Object, classes: Iterable[Object]) -> Object | None:
    name = pod["spec"].get("priorityClassName")
    if not name:
        defaults = [one for one in classes if one.get("globalDefault")]
        return min(defaults, key=lambda one: int(one["value"]), default=None)
    for one in classes:
        if one["metadata"]["name"] == name:
            return one
    raise forbidden(
        kinds.PODS,
        pod["metadata"].get("name", ""),
        f"no PriorityClass with name {name} was found",
    )
