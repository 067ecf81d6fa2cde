"""Roll the workloads whose ConfigMaps or Secrets change, where they ask for it.

`sampan.io/on-change: restart`. A workload remembers in an annotation which content of each
ConfigMap and Secret it runs with; what is different from that is put into its template, so the
change arrives as an ordinary rollout. What a Deployment takes back (`recovery`) includes this
memory. Every content that a workload has run with is kept in an immutable copy beside the original;
when a Deployment has gone back, the copy is put in the place of the content that failed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from sampan.api.marks import ON_CHANGE, ON_FAILURE
from sampan.api.objects import Object, Resource
from sampan.client.cache import Delta
from sampan.controllers.plan import (
    Action,
    Controller,
    CopyContent,
    Delete,
    Patch,
    Reader,
    RecordEvent,
    Trigger,
    World,
)
from sampan.controllers.recovery import CONFIG, failed_settings
from sampan.controllers.views import ConfigMap, Deployment, Secret
from sampan.controllers.views_apps import DaemonSet, StatefulSet

COPY_OF: Final = "sampan.io/copy-of"
KEPT: Final = 4
"""How many contents of a ConfigMap or Secret are kept, the present one among them."""

Workload: TypeAlias = Deployment | StatefulSet | DaemonSet
Settings: TypeAlias = ConfigMap | Secret
Contents: TypeAlias = dict[str, str]
"""Digests by `ConfigMap/NAME` or `Secret/NAME`."""

_WORKLOADS: Final[Mapping[str, Any]] = {
    v.KIND.kind: v for v in (Deployment, StatefulSet, DaemonSet)
}
_SETTINGS: Final[Mapping[str, Any]] = {view.KIND.kind: view for view in (ConfigMap, Secret)}


def reconcile(key: str, world: World) -> Iterator[Action]:
    kind, namespace, name = key.split("/")
    workload = world.objects.get(_WORKLOADS[kind], namespace, name)
    if workload is None or workload.metadata.deleting or not asks(workload):
        return
    held, seen = _held(workload), contents(workload, world.objects)
    if workload.metadata.annotations.get(ON_FAILURE) == "rollback":
        yield from _keep_copies(workload, seen, world.objects)
    changed = [ref for ref in seen if held.get(ref, seen[ref]) != seen[ref]]
    failed = _failed(workload, changed, seen)
    for ref in failed:
        yield from _restore(workload, ref, held[ref], world.objects)
    remembered = {ref: held[ref] for ref in uses(workload.spec.template) if ref in held}
    present = remembered | {ref: digest for ref, digest in seen.items() if ref not in failed}
    if present != held or CONFIG not in workload.metadata.annotations:
        yield _update(workload, present, [ref for ref in changed if ref not in failed])


def asks(workload: Workload) -> bool:
    return workload.metadata.annotations.get(ON_CHANGE) == "restart"


def uses(template: Object) -> list[str]:
    """Return `ConfigMap/NAME` and `Secret/NAME` for all that a Pod of *template* reads."""
    return sorted(set(_references(template.get("spec") or {})))


def _references(spec: Object) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            yield from _named("ConfigMap", source.get("configMap"), "name")
            yield from _named("Secret", source.get("secret"), "secretName", "name")
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for source in container.get("envFrom") or ():
            yield from _named("ConfigMap", source.get("configMapRef"), "name")
            yield from _named("Secret", source.get("secretRef"), "name")
        for variable in container.get("env") or ():
            value = variable.get("valueFrom") or {}
            yield from _named("ConfigMap", value.get("configMapKeyRef"), "name")
            yield from _named("Secret", value.get("secretKeyRef"), "name")


def _named(kind: str, source: Object | None, *fields: str) -> Iterator[str]:
    name = next((source[f] for f in fields if source.get(f)), "") if source else ""
    if name:
        yield f"{kind}/{name}"


def contents(workload: Workload, objects: Reader) -> Contents:
    """Return the digests of what *workload* uses, as far as it is there."""
    found = {ref: _find(workload, ref, objects) for ref in uses(workload.spec.template)}
    return {ref: obj.digest for ref, obj in found.items() if obj}


def _find(workload: Workload, ref: str, objects: Reader) -> Settings | None:
    kind, name = ref.split("/")
    found: Settings | None = objects.get(_SETTINGS[kind], workload.metadata.namespace, name)
    return found


def _held(workload: Workload) -> Contents:
    try:
        held = json.loads(workload.metadata.annotations.get(CONFIG, "{}"))
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _update(workload: Workload, present: Contents, changed: Iterable[str]) -> Patch:
    """Remember *present*; with something *changed*, let the template say so."""
    text = json.dumps(present, sort_keys=True, separators=(",", ":"))
    patch: Object = {"metadata": {"annotations": {CONFIG: text}}}
    if not (what := ", ".join(changed)):
        return Patch(workload, patch)
    digest = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    patch["spec"] = {"template": {"metadata": {"annotations": {CONFIG: digest}}}}
    return Patch(
        workload, patch, done=RecordEvent(workload, "SettingsChanged", f"Rolling: {what} changed")
    )


def _failed(workload: Workload, changed: Iterable[str], seen: Contents) -> list[str]:
    """Of what has *changed*, return what the release had that was taken back."""
    if not isinstance(workload, Deployment):
        return []
    bad = failed_settings(workload)
    return [ref for ref in changed if bad.get(ref) == seen[ref]]


def copy_name(name: str, digest: str) -> str:
    return f"{name[:230]}.{digest}"


def _restore(workload: Workload, ref: str, digest: str, objects: Reader) -> Iterator[Action]:
    """Put the content that worked back in the place of the one that failed."""
    kind, name = ref.split("/")
    obj = _find(workload, ref, objects)
    copy = objects.get(_SETTINGS[kind], workload.metadata.namespace, copy_name(name, digest))
    if obj is None or copy is None:
        text = f"{ref} failed, and its earlier content is not kept: put it right by hand"
        yield RecordEvent(workload, "SettingsNotRestored", text, "Warning")
        return
    text = f"{ref} has its earlier content again: the release with the new one failed"
    done = RecordEvent(workload, "SettingsRestored", text, "Warning")
    yield CopyContent(copy, name, {}, done=done, instead_of=obj.digest)


def _keep_copies(workload: Workload, seen: Contents, objects: Reader) -> Iterator[Action]:
    for ref, digest in seen.items():
        kind, name = ref.split("/")
        original = _find(workload, ref, objects)
        where = workload.metadata.namespace, copy_name(name, digest)
        if original is None or objects.get(_SETTINGS[kind], *where):
            continue
        owner = {
            "apiVersion": original.KIND.api_version, "kind": kind, "name": name,
            "uid": original.metadata.uid,
        }  # fmt: skip
        metadata = {"annotations": {COPY_OF: name}, "ownerReferences": [owner]}
        yield CopyContent(original, where[1], metadata)
        copies = objects.by(_SETTINGS[kind], "owner", original.metadata.uid)
        oldest = sorted(copies, key=lambda copy: int(copy.metadata.resource_version))
        yield from map(Delete, oldest[: max(len(oldest) - KEPT + 1, 0)])


def by_use(workload: Any) -> Iterable[str]:
    """File a workload that asks for it under `namespace/Kind/name` of all that it uses."""
    if not asks(workload):
        return ()
    return (f"{workload.metadata.namespace}/{ref}" for ref in uses(workload.spec.template))


def _itself(delta: Delta[Any], _objects: Reader) -> Iterable[str]:
    return (f"{delta.latest.KIND.kind}/{delta.latest.metadata.key}",) if asks(delta.latest) else ()


def _users(delta: Delta[Any], objects: Reader) -> Iterable[str]:
    """The workloads that use a ConfigMap or Secret whose content is new."""
    if delta.old and delta.new and delta.old.digest == delta.new.digest:
        return
    obj: Resource = delta.latest
    value = f"{obj.metadata.namespace}/{obj.KIND.kind}/{obj.metadata.name}"
    for view in _WORKLOADS.values():
        for workload in objects.by(view, "use", value):
            yield f"{view.KIND.kind}/{workload.metadata.key}"


_TRIGGERS: Final[dict[type[Resource], Trigger]] = {
    **dict.fromkeys(_WORKLOADS.values(), _itself),
    **dict.fromkeys(_SETTINGS.values(), _users),
}
CONTROLLER: Final = Controller("settings-controller", _TRIGGERS, reconcile)
