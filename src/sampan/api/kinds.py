"""The kinds table: every resource that the cluster knows, in one place.

Names, scopes, short names, categories, verbs and subresources are those of Kubernetes 1.37's
discovery documents.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

STANDARD_VERBS: Final = (
    "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch",
)  # fmt: skip


class Kind(Struct, frozen=True):
    """One resource type. *group* is empty for the core group; *plural* is its URL segment."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = STANDARD_VERBS

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The name that kubectl prints: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"

    @property
    def singular(self) -> str:
        return self.kind.lower()

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of this resource: its collection, one object, or a subresource of that."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)

    def key(self, namespace: str = "", name: str = "") -> str:
        """The store key of an object, or without *name* the prefix of a namespace or of all."""
        prefix = f"/{self.group or 'core'}/{self.plural}/"
        if self.namespaced:
            return f"{prefix}{namespace}/{name}" if namespace else prefix
        return prefix + name


_S: Final = ("status",)
_ALL: Final = ("all",)
_EXT: Final = ("api-extensions",)
_REVIEW: Final = ("create",)

PODS: Final = Kind("", "v1", "Pod", "pods", short_names=("po",), categories=_ALL, subresources=(
    "attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy",
    "resize", "status",
))  # fmt: skip
SERVICES: Final = Kind("", "v1", "Service", "services", short_names=("svc",), categories=_ALL,
                       subresources=("proxy", "status"))  # fmt: skip
NODES: Final = Kind("", "v1", "Node", "nodes", namespaced=False, short_names=("no",),
                    subresources=("proxy", "status"))  # fmt: skip
NAMESPACES: Final = Kind("", "v1", "Namespace", "namespaces", namespaced=False,
    short_names=("ns",), subresources=("finalize", "status"),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"))  # fmt: skip
BINDINGS: Final = Kind("", "v1", "Binding", "bindings", verbs=_REVIEW)
CONFIGMAPS: Final = Kind("", "v1", "ConfigMap", "configmaps", short_names=("cm",))
SECRETS: Final = Kind("", "v1", "Secret", "secrets")
SERVICE_ACCOUNTS: Final = Kind("", "v1", "ServiceAccount", "serviceaccounts", short_names=("sa",),
                               subresources=("token",))  # fmt: skip
EVENTS: Final = Kind("", "v1", "Event", "events", short_names=("ev",))
ENDPOINTS: Final = Kind("", "v1", "Endpoints", "endpoints", short_names=("ep",))
REPLICATION_CONTROLLERS: Final = Kind("", "v1", "ReplicationController", "replicationcontrollers",
    short_names=("rc",), categories=_ALL, subresources=("scale", "status"))  # fmt: skip
PERSISTENT_VOLUMES: Final = Kind("", "v1", "PersistentVolume", "persistentvolumes",
    namespaced=False, short_names=("pv",), subresources=_S)  # fmt: skip
PERSISTENT_VOLUME_CLAIMS: Final = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims",
    short_names=("pvc",), subresources=_S)  # fmt: skip
DEPLOYMENTS: Final = Kind("apps", "v1", "Deployment", "deployments", short_names=("deploy",),
    categories=_ALL, subresources=("scale", "status"))  # fmt: skip
REPLICA_SETS: Final = Kind("apps", "v1", "ReplicaSet", "replicasets", short_names=("rs",),
    categories=_ALL, subresources=("scale", "status"))  # fmt: skip
STATEFUL_SETS: Final = Kind("apps", "v1", "StatefulSet", "statefulsets", short_names=("sts",),
    categories=_ALL, subresources=("scale", "status"))  # fmt: skip
DAEMON_SETS: Final = Kind("apps", "v1", "DaemonSet", "daemonsets", short_names=("ds",),
    categories=_ALL, subresources=_S)  # fmt: skip
CONTROLLER_REVISIONS: Final = Kind("apps", "v1", "ControllerRevision", "controllerrevisions")
JOBS: Final = Kind("batch", "v1", "Job", "jobs", categories=_ALL, subresources=_S)
CRON_JOBS: Final = Kind("batch", "v1", "CronJob", "cronjobs", short_names=("cj",),
    categories=_ALL, subresources=_S)  # fmt: skip
LEASES: Final = Kind("coordination.k8s.io", "v1", "Lease", "leases")
ENDPOINT_SLICES: Final = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
PRIORITY_CLASSES: Final = Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses",
    namespaced=False, short_names=("pc",))  # fmt: skip
ROLES: Final = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDINGS: Final = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
CLUSTER_ROLES: Final = Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles",
    namespaced=False)  # fmt: skip
CLUSTER_ROLE_BINDINGS: Final = Kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding",
    "clusterrolebindings", namespaced=False)  # fmt: skip
STORAGE_CLASSES: Final = Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses",
    namespaced=False, short_names=("sc",))  # fmt: skip
DEFINITIONS: Final = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition",
    "customresourcedefinitions", namespaced=False, short_names=("crd", "crds"), categories=_EXT,
    subresources=_S)  # fmt: skip

KINDS: Final[tuple[Kind, ...]] = (
    BINDINGS,
    Kind("", "v1", "ComponentStatus", "componentstatuses", namespaced=False, short_names=("cs",),
         verbs=("get", "list")),
    CONFIGMAPS, ENDPOINTS, EVENTS,
    Kind("", "v1", "LimitRange", "limitranges", short_names=("limits",)),
    NAMESPACES, NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS,
    Kind("", "v1", "PodTemplate", "podtemplates"),
    REPLICATION_CONTROLLERS,
    Kind("", "v1", "ResourceQuota", "resourcequotas", short_names=("quota",), subresources=_S),
    SECRETS, SERVICE_ACCOUNTS, SERVICES,
    Kind("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy",
         "mutatingadmissionpolicies", namespaced=False, categories=_EXT),
    Kind("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding",
         "mutatingadmissionpolicybindings", namespaced=False, categories=_EXT),
    Kind("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration",
         "mutatingwebhookconfigurations", namespaced=False, categories=_EXT),
    Kind("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy",
         "validatingadmissionpolicies", namespaced=False, categories=_EXT, subresources=_S),
    Kind("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding",
         "validatingadmissionpolicybindings", namespaced=False, categories=_EXT),
    Kind("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration",
         "validatingwebhookconfigurations", namespaced=False, categories=_EXT),
    DEFINITIONS,
    Kind("apiregistration.k8s.io", "v1", "APIService", "apiservices", namespaced=False,
         categories=_EXT, subresources=_S),
    CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS,
    Kind("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews",
         namespaced=False, verbs=_REVIEW),
    Kind("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", namespaced=False,
         verbs=_REVIEW),
    Kind("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews",
         verbs=_REVIEW),
    Kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews",
         namespaced=False, verbs=_REVIEW),
    Kind("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews",
         namespaced=False, verbs=_REVIEW),
    Kind("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews",
         namespaced=False, verbs=_REVIEW),
    Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers",
         short_names=("hpa",), categories=_ALL, subresources=_S),
    Kind("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers",
         short_names=("hpa",), categories=_ALL, subresources=_S),
    CRON_JOBS, JOBS,
    Kind("certificates.k8s.io", "v1", "ClusterTrustBundle", "clustertrustbundles",
         namespaced=False),
    Kind("certificates.k8s.io", "v1", "PodCertificateRequest", "podcertificaterequests",
         subresources=_S),
    Kind("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests",
         namespaced=False, short_names=("csr",), subresources=("approval", "status")),
    LEASES, ENDPOINT_SLICES,
    Kind("events.k8s.io", "v1", "Event", "events", short_names=("ev",)),
    Kind("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas", namespaced=False,
         subresources=_S),
    Kind("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration",
         "prioritylevelconfigurations", namespaced=False, subresources=_S),
    Kind("networking.k8s.io", "v1", "IPAddress", "ipaddresses", namespaced=False,
         short_names=("ip",)),
    Kind("networking.k8s.io", "v1", "IngressClass", "ingressclasses", namespaced=False),
    Kind("networking.k8s.io", "v1", "Ingress", "ingresses", short_names=("ing",),
         subresources=_S),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", short_names=("netpol",)),
    Kind("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", namespaced=False,
         subresources=_S),
    Kind("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", namespaced=False),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short_names=("pdb",),
         subresources=_S),
    CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES,
    Kind("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", namespaced=False),
    Kind("resource.k8s.io", "v1", "DeviceTaintRule", "devicetaintrules", namespaced=False,
         subresources=_S),
    Kind("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", subresources=_S),
    Kind("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates"),
    Kind("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", namespaced=False),
    Kind("storagemigration.k8s.io", "v1", "StorageVersionMigration", "storageversionmigrations",
         namespaced=False, subresources=_S),
    PRIORITY_CLASSES,
    Kind("storage.k8s.io", "v1", "CSIDriver", "csidrivers", namespaced=False),
    Kind("storage.k8s.io", "v1", "CSINode", "csinodes", namespaced=False, subresources=_S),
    Kind("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities"),
    STORAGE_CLASSES,
    Kind("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", namespaced=False,
         subresources=_S),
    Kind("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses",
         namespaced=False, short_names=("vac",)),
)  # fmt: skip

BY_RESOURCE: Final[Mapping[tuple[str, str, str], Kind]] = {
    (kind.group, kind.version, kind.plural): kind for kind in KINDS
}
BY_GVK: Final[Mapping[tuple[str, str], Kind]] = {
    (kind.api_version, kind.kind): kind for kind in KINDS
}
