"""Reads Pods into demands, with what other objects say about them: Services and claims."""

import logging

from sampan.api.objects import Service
from sampan.client.cache import Cache
from sampan.scheduler.demand import Demand, Demands, together_by
from sampan.scheduler.views import Pod
from sampan.scheduler.volumes import VolumeBinder

log = logging.getLogger(__name__)


class Reader:
    def __init__(self, cache: Cache, volumes: VolumeBinder) -> None:
        self._cache = cache
        self._volumes = volumes
        self._demands = Demands()

    def read(self, pod: Pod) -> Demand | None:
        """Return *pod*'s demand, None if it makes no sense: one such Pod must not stop the rest."""
        try:
            return self._demand(pod)
        except (LookupError, TypeError, ValueError):
            log.exception("Pod %s: cannot read what it asks for", pod.metadata.key)
            return None

    def nothing(self, pod: Pod) -> Demand:
        """Return the demand of a Pod that asks for nothing, for one that cannot be read."""
        return self._demands.of(Pod(metadata=pod.metadata))

    def _demand(self, pod: Pod) -> Demand:
        """Return what *pod* asks; without an owner it stands apart from its Services' Pods."""
        needs = self._volumes.needs(pod)
        if pod.owner or pod.spec.topology_spread_constraints:
            return self._demands.of(pod, volumes=needs)
        labels = pod.metadata.labels.items()
        selectors = [
            service.spec.selector
            for service in self._cache.all(Service, pod.metadata.namespace)
            if service.spec.selector and service.spec.selector.items() <= labels
        ]
        return self._demands.of(pod, together_by(pod.metadata.namespace, selectors), needs)
