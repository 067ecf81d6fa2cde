"""Defaults of Pods and of the Pod templates in workloads.

Source: Kubernetes, pkg/apis/core/v1/defaults.go.
"""

from collections.abc import Iterable
from typing import Any, Final

from sampan.api.objects import Object

_PROBE: Final = {
    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
}  # fmt: skip
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_FILE_MODE: Final = 0o644
_MODED: Final = ("secret", "configMap", "downwardAPI", "projected")


def default_pod(pod: Object) -> None:
    default_pod_spec(pod.setdefault("spec", {}), pod=True)


def default_pod_spec(spec: Object, *, pod: bool = False) -> None:
    """Fill in a Pod's spec; a template's is left without what only a *pod* has."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    if "serviceAccount" in spec or "serviceAccountName" in spec:
        account = spec.get("serviceAccountName") or spec.get("serviceAccount") or ""
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if pod:
        spec.setdefault("enableServiceLinks", True)
    for volume in _objects(spec, "volumes"):
        _default_volume(volume)
    host = bool(spec.get("hostNetwork"))
    for field in ("initContainers", "containers"):
        for container in _objects(spec, field):
            _default_container(container, host=host, pod=pod)
    for container in _objects(spec, "ephemeralContainers"):
        _default_container(container, host=host, pod=pod)


def _objects(holder: Object, field: str) -> Iterable[Object]:
    found = holder.get(field)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else ()


def _default_container(container: Object, *, host: bool, pod: bool) -> None:
    container.setdefault("resources", {})
    _default_resources(container["resources"], requests=pod)
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", pull_policy(container.get("image", "")))
    for port in _objects(container, "ports"):
        port.setdefault("protocol", "TCP")
        if host and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for field in _PROBES:
        if isinstance(probe := container.get(field), dict):
            _default_probe(probe)
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _default_handler(hook)
    for variable in _objects(container, "env"):
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if isinstance(reference, dict):
            reference.setdefault("apiVersion", "v1")


def pull_policy(image: str) -> str:
    """`Always` for what may change under its name: the tag latest, written or implied."""
    name = image.rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    _, colon, tag = name.partition(":")
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def _default_resources(resources: Object, *, requests: bool) -> None:
    """Write amounts as text; a Pod's limit is also its request where none is given."""
    for field in ("limits", "requests"):
        amounts = resources.get(field)
        if isinstance(amounts, dict):
            for name, amount in amounts.items():
                if not isinstance(amount, str):
                    amounts[name] = _quantity(amount)
    if requests and isinstance(limits := resources.get("limits"), dict) and limits:
        asked = resources.setdefault("requests", {})
        for name, amount in limits.items():
            asked.setdefault(name, amount)


def _quantity(amount: Any) -> str:
    if isinstance(amount, float) and not amount.is_integer():
        return f"{round(amount * 1000)}m"
    return str(int(amount))


def _default_probe(probe: Object) -> None:
    for field, value in _PROBE.items():
        if not probe.get(field):
            probe[field] = value
    _default_handler(probe)


def _default_handler(handler: Object) -> None:
    if isinstance(http := handler.get("httpGet"), dict):
        http.setdefault("path", "/")
        http.setdefault("scheme", "HTTP")
    if isinstance(grpc := handler.get("grpc"), dict):
        grpc.setdefault("service", "")


def _default_volume(volume: Object) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    for field in _MODED:
        if isinstance(source := volume.get(field), dict):
            source.setdefault("defaultMode", _FILE_MODE)
            _default_field_refs(source)
    for source in _objects(volume.get("projected") or {}, "sources"):
        _default_projection(source)
    if isinstance(path := volume.get("hostPath"), dict):
        path.setdefault("type", "")
    if isinstance(ephemeral := volume.get("ephemeral"), dict):
        template = ephemeral.get("volumeClaimTemplate") or {}
        if isinstance(claim := template.get("spec"), dict):
            claim.setdefault("volumeMode", "Filesystem")


def _default_projection(source: Object) -> None:
    if isinstance(token := source.get("serviceAccountToken"), dict):
        token.setdefault("expirationSeconds", 3600)
    if isinstance(downward := source.get("downwardAPI"), dict):
        _default_field_refs(downward)


def _default_field_refs(source: Object) -> None:
    for item in _objects(source, "items"):
        if isinstance(reference := item.get("fieldRef"), dict):
            reference.setdefault("apiVersion", "v1")


def quality_of_service(spec: Object) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`, from the requests and limits of all containers."""
    containers = [*_objects(spec, "initContainers"), *_objects(spec, "containers")]
    resources = [container.get("resources") or {} for container in containers]
    counted = ("cpu", "memory")
    requests = [{k: v for k, v in (r.get("requests") or {}).items() if k in counted}
                for r in resources]  # fmt: skip
    limits = [{k: v for k, v in (r.get("limits") or {}).items() if k in counted}
              for r in resources]  # fmt: skip
    if not any(requests) and not any(limits):
        return "BestEffort"
    exact = all(
        set(limit) == set(counted) and (not asked or asked == limit)
        for asked, limit in zip(requests, limits, strict=True)
    )
    return "Guaranteed" if exact else "Burstable"
