"""The ServiceAccount of a new Pod, and its token where nobody refuses that."""

from collections.abc import Iterable
from typing import Final

from sampan.api.objects import Object
from sampan.apiserver.metadata import random_suffix

DEFAULT_ACCOUNT: Final = "default"
TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
ROOT_CA: Final = "kube-root-ca.crt"
_TOKEN_SECONDS: Final = 3607
_MIRROR: Final = "kubernetes.io/config.mirror"


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
