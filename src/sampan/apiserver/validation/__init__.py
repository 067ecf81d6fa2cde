"""What a schema cannot say of an object: pure rules, told in Kubernetes' words."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sampan.api import kinds
from sampan.api.errors import Cause
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.validation import batch, cluster, metadata, pods, services, workloads

Rule = Callable[[Object], Iterable[Cause]]
UpdateRule = Callable[[Object, Object], Iterable[Cause]]

_RULES: Final[Mapping[str, Rule]] = {
    kinds.PODS.resource: pods.validate_pod,
    kinds.DEPLOYMENTS.resource: workloads.validate_deployment,
    kinds.REPLICA_SETS.resource: workloads.validate_replicated,
    kinds.STATEFUL_SETS.resource: workloads.validate_stateful_set,
    kinds.DAEMON_SETS.resource: workloads.validate_daemon_set,
    kinds.REPLICATION_CONTROLLERS.resource: workloads.validate_replication_controller,
    kinds.JOBS.resource: batch.validate_job,
    kinds.CRON_JOBS.resource: batch.validate_cron_job,
    kinds.SERVICES.resource: services.validate_service,
    kinds.CONFIGMAPS.resource: cluster.validate_config_map,
    kinds.SECRETS.resource: cluster.validate_secret,
    kinds.NODES.resource: cluster.validate_node,
    kinds.LEASES.resource: cluster.validate_lease,
    kinds.PERSISTENT_VOLUME_CLAIMS.resource: cluster.validate_claim,
    kinds.ENDPOINT_SLICES.resource: services.validate_endpoint_slice,
}
_UPDATE_RULES: Final[Mapping[str, UpdateRule]] = {
    kinds.PODS.resource: pods.validate_pod_update,
    kinds.DEPLOYMENTS.resource: workloads.validate_selector_kept,
    kinds.REPLICA_SETS.resource: workloads.validate_selector_kept,
    kinds.DAEMON_SETS.resource: workloads.validate_selector_kept,
    kinds.STATEFUL_SETS.resource: workloads.validate_stateful_set_update,
    kinds.JOBS.resource: batch.validate_job_update,
    kinds.SERVICES.resource: services.validate_service_update,
    kinds.ENDPOINT_SLICES.resource: services.validate_endpoint_slice_update,
    kinds.CONFIGMAPS.resource: cluster.validate_immutable_data,
    kinds.SECRETS.resource: cluster.validate_secret_update,
    kinds.NODES.resource: cluster.validate_node_update,
    kinds.ROLE_BINDINGS.resource: cluster.validate_binding_update,
    kinds.CLUSTER_ROLE_BINDINGS.resource: cluster.validate_binding_update,
    kinds.PRIORITY_CLASSES.resource: cluster.validate_priority_class_update,
    kinds.PERSISTENT_VOLUME_CLAIMS.resource: cluster.validate_claim_update,
}


def validate(kind: Kind, obj: Object) -> list[Cause]:
    """All rules that a complete object of *kind* breaks."""
    causes = list(metadata.validate_metadata(kind, obj["metadata"]))
    if rule := _RULES.get(kind.resource):
        causes += rule(obj)
    return causes


def validate_update(kind: Kind, old: Object, new: Object) -> list[Cause]:
    """All rules that changing *old* into *new* breaks."""
    causes = list(metadata.validate_metadata_update(old["metadata"], new["metadata"]))
    if rule := _UPDATE_RULES.get(kind.resource):
        causes += rule(old, new)
    return causes
