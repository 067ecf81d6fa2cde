"""What a cluster and each of its namespaces has from the start. Pure: objects to be made."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any, Final

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import bootstrap
from sampan.apiserver.admission import DEFAULT_ACCOUNT, ROOT_CA, SYSTEM_PRIORITIES
from sampan.apiserver.settings import Settings

NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
_PORT: Final = "https"
_PURPOSE: Final = {
    "system-cluster-critical": "Used for system critical pods that must run in the cluster, but "
    "can be moved to another node if necessary.",
    "system-node-critical": "Used for system critical pods that must not be moved from their "
    "current node.",
}
_CA_PURPOSE: Final = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the "
    "kube-apiserver when using internal endpoints such as the internal service IP or "
    "kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
}
_LOCAL_PATH: Final[Object] = {
    "metadata": {
        "name": "local-path",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "sampan.io/local-path",
    "volumeBindingMode": "WaitForFirstConsumer",
    "reclaimPolicy": "Delete",
    "allowVolumeExpansion": True,
}
"""A directory on the node where a claim's first Pod runs."""


def of_cluster() -> Iterator[tuple[Kind, Object]]:
    """What is made once, and is then its administrator's to change."""
    for name in NAMESPACES:
        yield kinds.NAMESPACES, {"metadata": {"name": name}}
    for name, value in SYSTEM_PRIORITIES.items():
        yield kinds.PRIORITY_CLASSES, {
            "metadata": {"name": name}, "value": value, "description": _PURPOSE[name],
        }  # fmt: skip
    yield kinds.STORAGE_CLASSES, dict(_LOCAL_PATH)
    for role in bootstrap.cluster_roles():
        yield kinds.CLUSTER_ROLES, role
    for binding in bootstrap.cluster_role_bindings():
        yield kinds.CLUSTER_ROLE_BINDINGS, binding


def of_namespace(namespace: str, settings: Settings) -> Iterator[tuple[Kind, Object]]:
    """What a Pod that says nothing expects of its namespace."""
    meta = {"namespace": namespace}
    yield kinds.SERVICE_ACCOUNTS, {"metadata": {**meta, "name": DEFAULT_ACCOUNT}}
    if settings.root_ca:
        yield (
            kinds.CONFIGMAPS,
            {
                "metadata": {**meta, "name": ROOT_CA, "annotations": _CA_PURPOSE},
                "data": {"ca.crt": settings.root_ca},
            },
        )


def of_api(settings: Settings) -> Iterator[tuple[Kind, Object]]:
    """The Service by which Pods reach the API, and where it leads."""
    meta = {"namespace": "default", "name": "kubernetes"}
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = {"name": _PORT, "port": settings.advertise_port, "protocol": "TCP"}
    yield (
        kinds.SERVICES,
        {
            "metadata": {**meta, "labels": labels},
            "spec": {
                "clusterIP": str(IPv4Network(settings.service_cidr)[1]),
                "ports": [{"name": _PORT, "port": 443, "targetPort": settings.advertise_port}],
            },
        },
    )
    yield (
        kinds.ENDPOINTS,
        {
            "metadata": {**meta, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": settings.advertise_address}], "ports": [port]}],
        },
    )
    yield (
        kinds.ENDPOINT_SLICES,
        {
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": [settings.advertise_address], "conditions": {"ready": True}}
            ],
            "ports": [port],
        },
    )


def covers(found: Any, wanted: Any) -> bool:
    """Say whether *found* has all that *wanted* has, and may be more."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and covers(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(covers, found, wanted))
    return bool(found == wanted)
