"""Objects as rows, with the columns that kubectl's users know. Pure.

Source of the columns: Kubernetes, pkg/printers/internalversion/printers.go.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.tables import (
    cluster,
    custom,
    events,
    network,
    nodes,
    pods,
    storage,
    workloads,
)
from sampan.apiserver.tables.columns import DEFAULT, Column

_COLUMNS: Final[Mapping[str, Sequence[Column]]] = {
    kinds.PODS.resource: pods.COLUMNS,
    kinds.DEPLOYMENTS.resource: workloads.DEPLOYMENTS,
    kinds.REPLICA_SETS.resource: workloads.REPLICA_SETS,
    kinds.REPLICATION_CONTROLLERS.resource: workloads.REPLICA_SETS,
    kinds.STATEFUL_SETS.resource: workloads.STATEFUL_SETS,
    kinds.DAEMON_SETS.resource: workloads.DAEMON_SETS,
    kinds.JOBS.resource: workloads.JOBS,
    kinds.CRON_JOBS.resource: workloads.CRON_JOBS,
    "horizontalpodautoscalers.autoscaling": workloads.AUTOSCALERS,
    "poddisruptionbudgets.policy": workloads.BUDGETS,
    "controllerrevisions.apps": workloads.REVISIONS,
    kinds.SERVICES.resource: network.SERVICES,
    kinds.ENDPOINTS.resource: network.ENDPOINTS,
    kinds.ENDPOINT_SLICES.resource: network.ENDPOINT_SLICES,
    "ingresses.networking.k8s.io": network.INGRESSES,
    "ingressclasses.networking.k8s.io": network.INGRESS_CLASSES,
    "networkpolicies.networking.k8s.io": network.POLICIES,
    kinds.NODES.resource: nodes.COLUMNS,
    kinds.DEFINITIONS.resource: custom.DEFINITIONS,
    kinds.EVENTS.resource: events.COLUMNS,
    "events.events.k8s.io": events.COLUMNS,
    kinds.NAMESPACES.resource: cluster.NAMESPACES,
    kinds.CONFIGMAPS.resource: cluster.CONFIGMAPS,
    kinds.SECRETS.resource: cluster.SECRETS,
    kinds.SERVICE_ACCOUNTS.resource: cluster.SERVICE_ACCOUNTS,
    kinds.LEASES.resource: cluster.LEASES,
    kinds.PRIORITY_CLASSES.resource: cluster.PRIORITY_CLASSES,
    "certificatesigningrequests.certificates.k8s.io": cluster.CERTIFICATE_REQUESTS,
    kinds.ROLES.resource: cluster.ROLES,
    kinds.CLUSTER_ROLES.resource: cluster.ROLES,
    kinds.ROLE_BINDINGS.resource: cluster.BINDINGS,
    kinds.CLUSTER_ROLE_BINDINGS.resource: cluster.BINDINGS,
    kinds.PERSISTENT_VOLUMES.resource: storage.VOLUMES,
    kinds.PERSISTENT_VOLUME_CLAIMS.resource: storage.CLAIMS,
    "storageclasses.storage.k8s.io": storage.CLASSES,
}


def table(kind: Kind, objects: Sequence[Object], now: datetime) -> Object:
    """Make a meta.k8s.io/v1 Table of *objects*; its rows have cells and no object."""
    if isinstance(kind, CustomKind):
        columns: Sequence[Column] = custom.columns(kind)
    else:
        columns = _COLUMNS.get(kind.resource, DEFAULT)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [column.definition() for column in columns],
        "rows": [{"cells": [column.cell(obj, now) for column in columns]} for obj in objects],
    }
