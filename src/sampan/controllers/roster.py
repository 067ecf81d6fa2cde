"""Every controller there is, in one visible list, and the start of them all."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sampan.api.errors import ServiceUnavailable
from sampan.api.objects import EndpointSlice, Object, Pod, Resource, Service
from sampan.client.cache import Cache, Index, Interest, by_node, by_owner
from sampan.client.events import EventRecorder, wall_clock
from sampan.client.interface import Client
from sampan.controllers import (
    autoscaler,
    certificates,
    cluster_roles,
    cronjob,
    custom_resources,
    daemonset,
    deployment,
    disruption,
    endpoints,
    event_expiry,
    garbage_collector,
    job,
    job_ttl,
    lease_gc,
    load_balancer,
    mirroring,
    namespaces,
    node_ipam,
    node_lifecycle,
    pod_gc,
    rebalance,
    replicaset,
    replication_controller,
    root_ca,
    service_accounts,
    settings,
    statefulset,
    taint_eviction,
    volume_binding,
    volume_reclaim,
)
from sampan.controllers.certificates import Sign
from sampan.controllers.events import ControllerEvents
from sampan.controllers.loop import Loop, followed
from sampan.controllers.metering import Meter, Source
from sampan.controllers.plan import Controller, Trigger
from sampan.controllers.views import Deployment, ReplicaSet, by_label, by_orphan, by_selector
from sampan.controllers.views_apps import ControllerRevision, DaemonSet, StatefulSet
from sampan.controllers.views_scaling import Autoscaler
from sampan.controllers.views_storage import Claim, Volume, by_claim, by_volume

CONTROLLERS: Final[tuple[Controller, ...]] = (
    deployment.CONTROLLER,
    replicaset.CONTROLLER,
    replication_controller.CONTROLLER,
    statefulset.CONTROLLER,
    daemonset.CONTROLLER,
    job.CONTROLLER,
    job_ttl.CONTROLLER,
    cronjob.CONTROLLER,
    disruption.CONTROLLER,
    settings.CONTROLLER,
    endpoints.SLICES,
    endpoints.LEGACY,
    mirroring.CONTROLLER,
    load_balancer.CONTROLLER,
    node_lifecycle.CONTROLLER,
    taint_eviction.CONTROLLER,
    node_ipam.CONTROLLER,
    rebalance.CONTROLLER,
    pod_gc.CONTROLLER,
    lease_gc.CONTROLLER,
    cluster_roles.CONTROLLER,
    service_accounts.CONTROLLER,
    namespaces.CONTROLLER,
    garbage_collector.CONTROLLER,
    event_expiry.CONTROLLER,
    volume_binding.CLAIMS,
    volume_binding.EPHEMERAL,
    volume_reclaim.CONTROLLER,
)

OWNER: Final[Mapping[str, Index]] = {"owner": by_owner}
INDEXES: Final[Mapping[type[Resource], Mapping[str, Index]]] = {
    Pod: {
        **OWNER,
        "node": by_node,
        "orphan": by_orphan,
        "label": by_label,
        "claim": by_claim,
        "tracked": job.by_tracking,
    },
    ReplicaSet: {**OWNER, "orphan": by_orphan},
    ControllerRevision: {**OWNER, "orphan": by_orphan},
    Service: {**OWNER, "selector": by_selector},
    EndpointSlice: {**OWNER, "label": by_label},
    Deployment: {**OWNER, "use": settings.by_use},
    StatefulSet: {**OWNER, "use": settings.by_use},
    DaemonSet: {**OWNER, "use": settings.by_use},
    Claim: {**OWNER, "volume": by_volume},
    Volume: {**OWNER, "claim": by_claim},
}


OF_CUSTOM: Final[Mapping[str, Trigger]] = {
    garbage_collector.CONTROLLER.name: garbage_collector.changed,
    namespaces.CONTROLLER.name: namespaces.content,
}
"""Who looks at custom resources, whatever they are."""


def controllers(
    ca_pem: str, meter: Meter | None = None, sign: Sign = certificates.no_key
) -> Sequence[Controller]:
    return (
        *CONTROLLERS,
        root_ca.controller(ca_pem),
        autoscaler.controller(meter or Meter()),
        certificates.controller(sign),
    )


def interests(controllers: Sequence[Controller]) -> Sequence[Interest]:
    """Return what a cache must follow for *controllers*."""
    views = followed(controllers).values()
    return [Interest(view, indexes=INDEXES.get(view, OWNER)) for view in views]


async def nobody_measures() -> Sequence[Object]:
    raise ServiceUnavailable("nothing measures what Pods use")


async def run_all(
    client: Client,
    *,
    ca_pem: str,
    metrics: Source = nobody_measures,
    sign: Sign = certificates.no_key,
    now: Callable[[], datetime] = wall_clock,
) -> None:
    """Run every controller over one cache of its own, until cancelled."""
    meter = Meter()
    everyone = controllers(ca_pem, meter, sign)
    cache = Cache(client, [*interests(everyone), custom_resources.INTEREST])
    recorder = EventRecorder(client, now)
    loop = Loop(client, cache, everyone, ControllerEvents(recorder), now=now)
    custom_resources.CustomResources(cache, loop, OF_CUSTOM, OWNER)
    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run(), name="events")
        group.create_task(loop.run(), name="controllers")
        group.create_task(cache.run(), name="cache")
        group.create_task(meter.run(metrics, lambda: bool(cache.all(Autoscaler))), name="meter")
