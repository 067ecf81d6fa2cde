"""What Kubernetes fills in where a user says nothing, kind by kind.

Objects are changed in place: they are the registry's own copy of what came in. Defaulting what has
its defaults already changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.custom import definition
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.defaults import admission, cluster, pods, services, workloads

Defaulting = Callable[[Object], None]

_BY_RESOURCE: Final[Mapping[str, Defaulting]] = {
    kinds.PODS.resource: pods.default_pod,
    "podtemplates": workloads.default_pod_template,
    kinds.DEPLOYMENTS.resource: workloads.default_deployment,
    kinds.REPLICA_SETS.resource: workloads.default_replica_set,
    kinds.REPLICATION_CONTROLLERS.resource: workloads.default_replication_controller,
    kinds.STATEFUL_SETS.resource: workloads.default_stateful_set,
    kinds.DAEMON_SETS.resource: workloads.default_daemon_set,
    kinds.JOBS.resource: workloads.default_job,
    kinds.CRON_JOBS.resource: workloads.default_cron_job,
    kinds.SERVICES.resource: services.default_service,
    kinds.ENDPOINTS.resource: services.default_endpoints,
    kinds.ENDPOINT_SLICES.resource: services.default_endpoint_slice,
    "ingresses.networking.k8s.io": services.default_ingress,
    "networkpolicies.networking.k8s.io": services.default_network_policy,
    kinds.SECRETS.resource: cluster.default_secret,
    kinds.NAMESPACES.resource: cluster.default_namespace,
    kinds.NODES.resource: cluster.default_node,
    kinds.PERSISTENT_VOLUMES.resource: cluster.default_persistent_volume,
    kinds.PERSISTENT_VOLUME_CLAIMS.resource: cluster.default_claim,
    "storageclasses.storage.k8s.io": cluster.default_storage_class,
    "horizontalpodautoscalers.autoscaling": cluster.default_autoscaler,
    kinds.ROLE_BINDINGS.resource: cluster.default_binding,
    kinds.CLUSTER_ROLE_BINDINGS.resource: cluster.default_binding,
    kinds.PRIORITY_CLASSES.resource: cluster.default_priority_class,
    **admission.BY_RESOURCE,
    "customresourcedefinitions.apiextensions.k8s.io": definition.default,
}


def apply(kind: Kind, obj: Object) -> None:
    """Fill in the defaults of *obj*."""
    if isinstance(kind, CustomKind):
        kind.version_.fill(obj)
        return
    if defaulting := _BY_RESOURCE.get(kind.resource):
        defaulting(obj)
