"""Whose name is whose: what a definition asks to be called, and what it may be. Pure.

A name belongs to the first that was accepted with it. Source: k8s.io/apiextensions-apiserver,
pkg/controller/status/naming_controller.go.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sampan.api.kinds import KINDS
from sampan.api.objects import Object

Names = Mapping[str, Any]

ESTABLISHED: Final = "Established"
ACCEPTED: Final = "NamesAccepted"
TERMINATING: Final = "Terminating"


def conditions(raw: Object) -> list[Object]:
    return list((raw.get("status") or {}).get("conditions") or ())


def is_true(raw: Object, type_: str) -> bool:
    return any(c["type"] == type_ and c["status"] == "True" for c in conditions(raw))


def accepted(raw: Object) -> Names:
    return (raw.get("status") or {}).get("acceptedNames") or {}


def _taken(names: Names) -> set[str]:
    """The names under which a resource is asked for."""
    found = {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
    return found - {""}


def judged(raw: Object, others: Iterable[Object]) -> tuple[Names, tuple[str, str, str]]:
    """What *raw* may be called, and its condition NamesAccepted: status, reason, message."""
    group = raw["spec"]["group"]
    asked, held = raw["spec"]["names"], accepted(raw)
    resources = {n for kind in KINDS if kind.group == group for n in (kind.plural, kind.singular)}
    kinds = {n for kind in KINDS if kind.group == group for n in (kind.kind, kind.list_kind)}
    for other in others:
        if other["spec"]["group"] == group and other["metadata"]["uid"] != raw["metadata"]["uid"]:
            names = accepted(other)
            resources |= _taken(names)
            kinds |= {names.get("kind", ""), names.get("listKind", "")} - {""}
    given: Object = dict(held)
    first: tuple[str, str] | None = None
    for field, reason, taken in (
        ("plural", "PluralConflict", resources),
        ("singular", "SingularConflict", resources),
        ("shortNames", "ShortNamesConflict", resources),
        ("kind", "KindConflict", kinds),
        ("listKind", "ListKindConflict", kinds),
    ):
        wrong = _conflict(asked.get(field), taken)
        if wrong is None:
            given = _with(given, field, asked.get(field))
        else:
            first = first or (reason, f'"{wrong}" is already in use')
    given = _with(given, "categories", asked.get("categories"))
    if first:
        return given, ("False", *first)
    return given, ("True", "NoConflicts", "no conflicts found")


def _with(names: Object, field: str, value: Any) -> Object:
    if value:
        return {**names, field: value}
    return {key: held for key, held in names.items() if key != field}


def _conflict(asked: Any, taken: set[str]) -> str | None:
    wanted = asked if isinstance(asked, list) else [asked]
    return next((name for name in wanted if name and name in taken), None)


def status(raw: Object, others: Iterable[Object], now: str) -> Object:
    """The status that *raw* shall have, given the definitions that are there."""
    names, (verdict, reason, message) = judged(raw, others)
    found = conditions(raw)
    found = with_condition(found, ACCEPTED, verdict, reason, message, now)
    if verdict == "True":
        told = ("InitialNamesAccepted", "the initial names have been accepted")
        if not is_true(raw, ESTABLISHED):
            found = with_condition(found, ESTABLISHED, "True", *told, now)
    elif not any(c["type"] == ESTABLISHED for c in found):
        told = ("NotAccepted", "not all names are accepted")
        found = with_condition(found, ESTABLISHED, "False", *told, now)
    if raw["metadata"].get("deletionTimestamp") and not is_true(raw, TERMINATING):
        told = (
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        )
        found = with_condition(found, TERMINATING, "True", *told, now)
    storage = next(v["name"] for v in raw["spec"]["versions"] if v.get("storage"))
    kept = list((raw.get("status") or {}).get("storedVersions") or ())
    if storage not in kept:
        kept.append(storage)
    return {"acceptedNames": names, "conditions": found, "storedVersions": kept}


def with_condition(
    present: Iterable[Object], type_: str, verdict: str, reason: str, message: str, now: str
) -> list[Object]:
    """*present* with this condition; its transition is dated only if its status changes."""
    made = {"lastTransitionTime": now, "message": message, "reason": reason, "status": verdict,
            "type": type_}  # fmt: skip
    found = list(present)
    for index, old in enumerate(found):
        if old["type"] == type_:
            if old["status"] == verdict:
                made["lastTransitionTime"] = old.get("lastTransitionTime") or now
            found[index] = made
            return found
    return [*found, made]
