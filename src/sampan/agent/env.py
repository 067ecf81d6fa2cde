"""A container's environment: what its Pod's spec says, in the order in which Kubernetes reads it.

Services first, then `envFrom`, then `env`, where `$(NAME)` means what came before. Objects that
are referred to are fetched beforehand; here nothing waits.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from sampan.agent.resources import Capacity, container_resource
from sampan.agent.spec import ContainerSpec, NodePod
from sampan.api.objects import Object, Service

Source = Literal["configmap", "secret"]
_REFERENCE: Final = re.compile(r"\$(\$|\(([^)]*)\))")
_SUBSCRIPT: Final = re.compile(r"(metadata\.(?:labels|annotations))\['([^']+)'\]")


class ConfigError(Exception):
    """What the spec refers to is not there, or makes no sense; the Pod waits until it is."""


class Reference(Struct, frozen=True):
    """One object that an environment or a volume reads."""

    source: Source
    name: str


class Surroundings(Struct, frozen=True):
    """What a Pod's fields may speak of, beyond its spec."""

    pod: NodePod
    pod_ip: str
    host_ip: str
    node: Capacity


Found = Mapping[Reference, Object | None]


def references(container: ContainerSpec) -> Iterator[Reference]:
    """The objects that must be fetched before `environment` can be made."""
    for entry in container.env_from:
        for key, source in _ENV_FROM.items():
            if ref := entry.get(key):
                yield Reference(source, ref["name"])
    for entry in container.env:
        for key, source in _VALUE_FROM.items():
            if ref := (entry.get("valueFrom") or {}).get(key):
                yield Reference(source, ref["name"])


_ENV_FROM: Final[Mapping[str, Source]] = {"configMapRef": "configmap", "secretRef": "secret"}
_VALUE_FROM: Final[Mapping[str, Source]] = {
    "configMapKeyRef": "configmap",
    "secretKeyRef": "secret",
}


def environment(
    container: ContainerSpec, around: Surroundings, found: Found, services: Iterable[Service]
) -> dict[str, str]:
    """Return the variables; raise ConfigError when something required is missing."""
    result = service_variables(services, around.pod)
    for entry in container.env_from:
        result |= _all_of(entry, found)
    for entry in container.env:
        value = _value(entry, container, around, found, result)
        if value is not None:
            result[entry["name"]] = value
    return result


def _all_of(entry: Object, found: Found) -> dict[str, str]:
    prefix = entry.get("prefix") or ""
    for key, source in _ENV_FROM.items():
        if ref := entry.get(key):
            obj = found.get(Reference(source, ref["name"]))
            if obj is None:
                if ref.get("optional"):
                    return {}
                raise ConfigError(f'{source} "{ref["name"]}" not found')
            return {prefix + name: data.decode() for name, data in contents(source, obj).items()}
    return {}


def _value(
    entry: Object, container: ContainerSpec, around: Surroundings, found: Found, so_far: Object
) -> str | None:
    origin = entry.get("valueFrom")
    if not origin:
        return expand(str(entry.get("value") or ""), so_far)
    for key, source in _VALUE_FROM.items():
        if ref := origin.get(key):
            return _key_of(source, ref, found, around.pod)
    if ref := origin.get("fieldRef"):
        return pod_field(ref["fieldPath"], around)
    if ref := origin.get("resourceFieldRef"):
        of = around.pod.container(ref.get("containerName") or "") or container
        return resource_field(of, ref, around.node)
    raise ConfigError(f"env {entry['name']}: valueFrom has no source that this node knows")


def resource_field(container: ContainerSpec, ref: Object, node: Capacity) -> str:
    try:
        return container_resource(container, ref["resource"], ref.get("divisor") or "0", node)
    except LookupError as error:
        raise ConfigError(str(error.args[0])) from error


def _key_of(source: Source, ref: Object, found: Found, pod: NodePod) -> str | None:
    obj = found.get(Reference(source, ref["name"]))
    data = contents(source, obj) if obj else {}
    if ref["key"] in data:
        return data[ref["key"]].decode()
    if ref.get("optional"):
        return None
    if obj is None:
        raise ConfigError(f'{source} "{ref["name"]}" not found')
    kind = "ConfigMap" if source == "configmap" else "Secret"
    where = f"{pod.metadata.namespace}/{ref['name']}"
    raise ConfigError(f"couldn't find key {ref['key']} in {kind} {where}")


def contents(source: Source, obj: Object) -> dict[str, bytes]:
    """All of a ConfigMap's or Secret's data as bytes."""
    if source == "secret":
        return {key: b64decode(value) for key, value in (obj.get("data") or {}).items()}
    text = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    binary = {key: b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return text | binary


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace each `$(NAME)` that is known; `$$` stands for a single `$`."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def pod_field(path: str, around: Surroundings) -> str:
    """Read what the downward API calls *path*; raise ConfigError if there is no such field."""
    pod, meta = around.pod, around.pod.metadata
    if match := _SUBSCRIPT.fullmatch(path):
        table = meta.labels if match[1].endswith("labels") else meta.annotations
        return table.get(match[2], "")
    fields = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "metadata.labels": _as_lines(meta.labels),
        "metadata.annotations": _as_lines(meta.annotations),
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.podIP": around.pod_ip,
        "status.podIPs": around.pod_ip,
        "status.hostIP": around.host_ip,
        "status.hostIPs": around.host_ip,
    }
    if path not in fields:
        raise ConfigError(f"fieldPath {path!r} is not one that a Pod can read")
    return fields[path]


def _as_lines(table: Mapping[str, str]) -> str:
    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'

    return "\n".join(f"{key}={quoted(table[key])}" for key in sorted(table))


def service_variables(services: Iterable[Service], pod: NodePod) -> dict[str, str]:
    """Docker links' variables: of the API server always, of the namespace's Services if asked."""
    result: dict[str, str] = {}
    for service in sorted(services, key=lambda s: s.metadata.key):
        api = service.metadata.key == "default/kubernetes"
        near = service.metadata.namespace == pod.metadata.namespace
        if api or (near and pod.spec.enable_service_links):
            result |= _variables_of(service)
    return result


def _variables_of(service: Service) -> dict[str, str]:
    ip = service.spec.cluster_ip
    if not ip or service.spec.headless or not service.spec.ports:
        return {}
    name = service.metadata.name.upper().replace("-", "_")
    first = service.spec.ports[0]
    result = {f"{name}_SERVICE_HOST": ip, f"{name}_SERVICE_PORT": str(first.port)}
    for port in service.spec.ports:
        if port.name:
            suffix = port.name.upper().replace("-", "_")
            result[f"{name}_SERVICE_PORT_{suffix}"] = str(port.port)
    result[f"{name}_PORT"] = f"{first.protocol.lower()}://{ip}:{first.port}"
    for port in service.spec.ports:
        prefix = f"{name}_PORT_{port.port}_{port.protocol}"
        protocol = port.protocol.lower()
        result |= {
            prefix: f"{protocol}://{ip}:{port.port}",
            f"{prefix}_PROTO": protocol,
            f"{prefix}_PORT": str(port.port),
            f"{prefix}_ADDR": ip,
        }
    return result
