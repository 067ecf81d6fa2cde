"""A view of every kind that a namespace can hold, for those who ask only who owns what.

Kinds that a controller reads have its view; of the others nothing but the metadata is kept.
Events are left out: they are many, own nothing and are owned by nobody.
"""

from collections.abc import Mapping
from typing import Final, cast

from msgspec import defstruct

from sampan.api.kinds import KINDS, Kind
from sampan.api.objects import EndpointSlice, Lease, Pod, Resource, Service, ServiceAccount
from sampan.controllers.views import ConfigMap, Deployment, Endpoints, ReplicaSet, Secret
from sampan.controllers.views_apps import (
    ControllerRevision,
    DaemonSet,
    ReplicationController,
    StatefulSet,
)
from sampan.controllers.views_batch import CronJob, Job
from sampan.controllers.views_policy import Budget
from sampan.controllers.views_scaling import Autoscaler
from sampan.controllers.views_storage import Claim

_READ: Final = (
    Deployment, ReplicaSet, Pod, Service, EndpointSlice, Endpoints, ConfigMap, ServiceAccount,
    Lease, ReplicationController, StatefulSet, DaemonSet, ControllerRevision, Claim, Job, CronJob,
    Budget, Secret, Autoscaler,
)  # fmt: skip
_NEEDED: Final = frozenset({"list", "watch", "delete"})


def bare(kind: Kind) -> type[Resource]:
    """Make a view of *kind* that has nothing but the metadata."""
    made = defstruct(
        kind.kind,
        [],
        bases=(Resource,),
        namespace={"KIND": kind, "__module__": __name__},
        frozen=True,
        rename="camel",
        omit_defaults=True,
    )
    return cast("type[Resource]", made)


def _contents() -> Mapping[Kind, type[Resource]]:
    """Workloads come before their Pods; of a kind with several versions the first counts."""
    views: dict[Kind, type[Resource]] = {view.KIND: view for view in _READ}
    known = {(kind.group, kind.plural) for kind in views}
    for kind in KINDS:
        listed = kind.namespaced and kind.kind != "Event" and set(kind.verbs) >= _NEEDED
        if listed and (kind.group, kind.plural) not in known:
            known.add((kind.group, kind.plural))
            views[kind] = bare(kind)
    return dict(sorted(views.items(), key=lambda item: item[0].group not in {"apps", "batch"}))


CONTENTS: Final[Mapping[Kind, type[Resource]]] = _contents()
SWEPT: Final = tuple(kind for kind in KINDS if kind.kind == "Event")
"""What a namespace holds that no cache follows."""
