"""Rules of containers. Source: Kubernetes, core/validation."""

from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, Final

from sampan.api import quantities
from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.apiserver.problems import bad_value, duplicate, required, unsupported
from sampan.apiserver.validation import names

_PULL: Final = ("Always", "IfNotPresent", "Never")
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_PORT_RANGE: Final = "must be between 1 and 65535, inclusive"
_LAST_PORT: Final = 65535
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_QUANTITY: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


parse = lru_cache(maxsize=4096)(quantities.parse)
"""Objects of a cluster have the same few amounts."""


def validate_containers(
    spec: Object, field: str, volumes: Collection[str | None]
) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{field}.containers")
    seen: set[str] = set()
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part) or ()):
            here = f"{field}.{part}[{index}]"
            yield from _validate_container(container, here, volumes)
            if (name := container.get("name", "")) in seen and name:
                yield duplicate(f"{here}.name", name)
            seen.add(name)
    yield from _validate_host_ports(spec, field)


def _validate_container(
    container: Object, field: str, volumes: Collection[str | None]
) -> Iterator[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{field}.name")
    elif wrong := names.label(name):
        yield bad_value(f"{field}.name", name, wrong)
    image = container.get("image", "")
    if not image:
        yield required(f"{field}.image")
    elif image != image.strip():
        yield bad_value(f"{field}.image", image, "must not have leading or trailing whitespace")
    policy = container.get("imagePullPolicy")
    if policy is not None and policy not in _PULL:
        yield unsupported(f"{field}.imagePullPolicy", policy, _PULL)
    yield from _validate_ports(container, field)
    yield from _validate_env(container, field)
    yield from _validate_mounts(container, field, volumes)
    yield from _validate_resources(container.get("resources") or {}, f"{field}.resources")
    for part in _PROBES:
        if probe := container.get(part):
            yield from _validate_probe(probe, f"{field}.{part}", part)


def _validate_ports(container: Object, field: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, port in enumerate(container.get("ports") or ()):
        here = f"{field}.ports[{index}]"
        if name := port.get("name"):
            if wrong := names.port_name(name):
                yield bad_value(f"{here}.name", name, wrong)
            if name in seen:
                yield duplicate(f"{here}.name", name)
            seen.add(name)
        number = port.get("containerPort", 0)
        if not number:
            yield required(f"{here}.containerPort")
        elif not 0 < number <= _LAST_PORT:
            yield bad_value(f"{here}.containerPort", number, _PORT_RANGE)
        host = port.get("hostPort", 0)
        if host and not 0 < host <= _LAST_PORT:
            yield bad_value(f"{here}.hostPort", host, _PORT_RANGE)
        if (protocol := port.get("protocol", "TCP")) not in _PROTOCOLS:
            yield unsupported(f"{here}.protocol", protocol, _PROTOCOLS)


def _validate_host_ports(spec: Object, field: str) -> Iterator[Cause]:
    seen: set[tuple[Any, ...]] = set()
    for index, container in enumerate(spec.get("containers") or ()):
        for place, port in enumerate(container.get("ports") or ()):
            if not (number := port.get("hostPort")):
                continue
            key = (port.get("protocol", "TCP"), port.get("hostIP", ""), number)
            if key in seen:
                here = f"{field}.containers[{index}].ports[{place}].hostPort"
                yield duplicate(here, f"{key[0]}/{key[1]}/{number}")
            seen.add(key)


def _validate_env(container: Object, field: str) -> Iterator[Cause]:
    for index, variable in enumerate(container.get("env") or ()):
        here = f"{field}.env[{index}]"
        name = variable.get("name", "")
        if not name:
            yield required(f"{here}.name")
        elif wrong := names.env_name(name):
            yield bad_value(f"{here}.name", name, wrong)
        source = variable.get("valueFrom")
        if source is None:
            continue
        if variable.get("value"):
            why = "may not be specified when `value` is not empty"
            yield bad_value(f"{here}.valueFrom", "", why)
        if len(source) != 1:
            why = (
                "must specify exactly one of `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or "
                "`secretKeyRef`"
            )
            yield bad_value(f"{here}.valueFrom", "", why)
        for part in ("configMapKeyRef", "secretKeyRef"):
            if part in source and not source[part].get("name"):
                yield required(f"{here}.valueFrom.{part}.name")


def _validate_mounts(
    container: Object, field: str, volumes: Collection[str | None]
) -> Iterator[Cause]:
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        here = f"{field}.volumeMounts[{index}]"
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield required(f"{here}.name")
        elif name not in volumes:
            yield Cause("FieldValueNotFound", f'Not found: "{name}"', f"{here}.name")
        if not path:
            yield required(f"{here}.mountPath")
        elif path in paths:
            yield bad_value(f"{here}.mountPath", path, "must be unique")
        paths.add(path)
        inner = mount.get("subPath") or ""
        if inner.startswith("/"):
            yield bad_value(f"{here}.subPath", inner, "must be a relative path")
        elif ".." in inner.split("/"):
            yield bad_value(f"{here}.subPath", inner, "must not contain '..'")


def _validate_resources(resources: Object, field: str) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for part in ("limits", "requests"):
        for name, amount in (resources.get(part) or {}).items():
            here = f"{field}.{part}[{name}]"
            problems = list(validate_quantity(amount, here))
            yield from problems
            if part == "requests" and name in limits and not problems:
                yield from _within(amount, limits[name], name, f"{field}.requests")


def _within(asked: Any, limit: Any, name: str, field: str) -> Iterator[Cause]:
    try:
        too_much = parse(asked) > parse(limit)
    except ValueError:
        return
    if too_much:
        why = f"must be less than or equal to {name} limit of {limit}"
        yield bad_value(field, str(asked), why)


def validate_quantity(amount: Any, field: str) -> Iterator[Cause]:
    try:
        value = parse(amount)
    except ValueError:
        yield bad_value(field, amount, _QUANTITY)
        return
    if value < 0:
        yield bad_value(field, amount, "must be greater than or equal to 0")


def _validate_probe(probe: Object, field: str, part: str) -> Iterator[Cause]:
    handlers = [handler for handler in _HANDLERS if probe.get(handler) is not None]
    if not handlers:
        yield required(field, "must specify a handler type")
    for extra in handlers[1:]:
        yield Cause(
            "FieldValueForbidden",
            "Forbidden: may not specify more than 1 handler type",
            f"{field}.{extra}",
        )
    for number in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold"):
        if probe.get(number, 0) < 0:
            yield bad_value(
                f"{field}.{number}", probe[number], "must be greater than or equal to 0"
            )
    if part != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        yield bad_value(f"{field}.successThreshold", probe["successThreshold"], "must be 1")
