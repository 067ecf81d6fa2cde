"""What controllers read of the kinds that nobody else looks into."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Self

from msgspec import convert, field
from msgspec.json import encode

from sampan.api import kinds
from sampan.api.objects import Condition, IntOrString, NamespaceSpec, Object, Resource, View

REVISION = "deployment.kubernetes.io/revision"


class ReplicaSetSpec(View):
    replicas: int = 1
    min_ready_seconds: int = 0
    selector: Object = field(default_factory=dict)
    template: Object = field(default_factory=dict)


class ReplicaSetStatus(View):
    replicas: int | None = None
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0
    conditions: list[Condition] = field(default_factory=list)


class ReplicaSet(Resource):
    KIND = kinds.REPLICA_SETS
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()

    @property
    def revision(self) -> int:
        """The Deployment's revision that this set belongs to; 0 if it has none yet."""
        text = self.metadata.annotations.get(REVISION, "")
        return int(text) if text.isdecimal() else 0


class RollingUpdate(View):
    max_surge: IntOrString = "25%"
    max_unavailable: IntOrString = "25%"


class DeploymentStrategy(View):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(View):
    replicas: int = 1
    min_ready_seconds: int = 0
    paused: bool = False
    progress_deadline_seconds: int | None = None
    revision_history_limit: int | None = None
    selector: Object = field(default_factory=dict)
    strategy: DeploymentStrategy = DeploymentStrategy()
    template: Object = field(default_factory=dict)


class DeploymentStatus(View):
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    observed_generation: int = 0
    collision_count: int | None = None
    conditions: list[Condition] = field(default_factory=list)


class Deployment(Resource):
    KIND = kinds.DEPLOYMENTS
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class Endpoints(Resource):
    KIND = kinds.ENDPOINTS
    subsets: list[Object] = field(default_factory=list)


class NamespaceStatus(View):
    phase: str = ""
    conditions: list[Condition] = field(default_factory=list)


class Namespace(Resource):
    KIND = kinds.NAMESPACES
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


class CaBundle(View):
    certificates: str = field(default="", name="ca.crt")


def content_digest(raw: Object) -> str:
    """Name the content of a ConfigMap or Secret: the same name, the same content."""
    content = [raw.get(field) or {} for field in ("data", "binaryData", "stringData")]
    return hashlib.blake2b(encode(content, order="sorted"), digest_size=8).hexdigest()


class ConfigMap(Resource):
    """Of its data only the CA bundle is read, and so kept in memory."""

    KIND = kinds.CONFIGMAPS
    data: CaBundle = CaBundle()
    digest: str = ""

    @classmethod
    def of(cls, raw: Object) -> Self:
        return convert({**raw, "digest": content_digest(raw)}, cls, strict=False)


class Secret(Resource):
    """Nothing of its data is kept in memory."""

    KIND = kinds.SECRETS
    digest: str = ""

    @classmethod
    def of(cls, raw: Object) -> Self:
        metadata = raw.get("metadata") or {}
        return convert({"metadata": metadata, "digest": content_digest(raw)}, cls, strict=False)


def reference(owner: Resource) -> Object:
    """Return the ownerReference by which *owner* controls another object."""
    return {
        "apiVersion": owner.KIND.api_version,
        "kind": owner.KIND.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controls(owner: Resource, obj: Resource) -> bool:
    ref = obj.metadata.controller
    return ref is not None and ref.uid == owner.metadata.uid


def by_orphan(obj: Resource) -> Iterable[str]:
    """File what no controller owns under its namespace."""
    return () if obj.metadata.controller else (obj.metadata.namespace,)


def by_label(obj: Resource) -> Iterable[str]:
    """File under every `namespace/label=value`, for finding a selector's candidates."""
    space = obj.metadata.namespace
    return (f"{space}/{key}={value}" for key, value in obj.metadata.labels.items())


def by_selector(service: Any) -> Iterable[str]:
    """File a Service under its first selector term: who carries all carries that one."""
    terms = sorted(service.spec.selector.items())[:1]
    return (f"{service.metadata.namespace}/{key}={value}" for key, value in terms)


def seconds(at: datetime) -> datetime:
    """Cut to whole seconds, all that Kubernetes' timestamps can hold."""
    return at.replace(microsecond=0)
