"""Server-side apply: the fields that an applier names are its own, and others may not fight it.

Source: Kubernetes, "Server-Side Apply"; sigs.k8s.io/structured-merge-diff, merge/update.go.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sampan.api.errors import Cause, Conflict
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.patches import fields, managed
from sampan.apiserver.patches.fields import Fields, Schema
from sampan.apiserver.patches.managed import Who
from sampan.apiserver.patches.strategic import field_schema


def apply(
    kind: Kind, live: Object, config: Object, who: Who, *, force: bool, now: datetime
) -> Object:
    """*live* with what *config* says, owned by *who*; raise Conflict where others own it."""
    schema = managed.schema_of(kind)
    part = managed.owned_part(kind, config, who.subresource)
    wanted = managed.owned(kind, config, who.subresource)
    entries = managed.written_out(kind, live)
    mine: Fields = next((entry["fieldsV1"] for entry in entries if who.owns(entry)), {})
    others = [entry for entry in entries if not who.owns(entry)]
    merged = merge(live, part, schema)
    touched, _ = fields.difference(live, merged, schema)
    others = _settled(others, touched or {}, force=force)
    dropped = fields.without(mine, wanted)
    for entry in others:
        dropped = fields.without(dropped, entry["fieldsV1"])
    merged = remove(merged, dropped, schema)
    kept = _kept(kind, others, merged, who.subresource)
    unchanged = next((entry for entry in entries if who.owns(entry) and mine == wanted), None)
    if wanted:
        kept.append(unchanged or who.entry(wanted, now))
    owners = managed.in_order(kept)
    return {**merged, "metadata": {**merged["metadata"], "managedFields": owners}}


def _settled(entries: Sequence[Object], touched: Fields, *, force: bool) -> list[Object]:
    """What the other managers still own; raise Conflict if that is disputed without *force*."""
    settled, disputed = [], []
    for entry in entries:
        fought = fields.common(entry["fieldsV1"], touched)
        if fought:
            disputed.append((entry, list(fields.paths(fought))))
        if left := fields.without(entry["fieldsV1"], fought):
            settled.append({**entry, "fieldsV1": left} if fought else entry)
    if disputed and not force:
        raise conflict(disputed)
    return settled


def conflict(disputed: Sequence[tuple[Object, Sequence[str]]]) -> Conflict:
    told = [(managed.described(entry), paths) for entry, paths in disputed]
    causes = [
        Cause("FieldManagerConflict", f"conflict with {who}", path)
        for who, paths in told
        for path in paths
    ]
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        lines = []
        for who, paths in told:
            lines += [f"conflicts with {who}:", *(f"- {path}" for path in paths)]
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return Conflict(text, causes=causes)


def _kept(kind: Kind, entries: Sequence[Object], merged: Object, subresource: str) -> list[Object]:
    """*entries* without fields that *merged* no longer has."""
    there = managed.owned(kind, merged, subresource)
    kept = []
    for entry in entries:
        if entry.get("subresource", "") != subresource:
            kept.append(entry)
        elif left := fields.common(entry["fieldsV1"], there):
            kept.append(entry if left == entry["fieldsV1"] else {**entry, "fieldsV1": left})
    return kept


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """*live* with all that *config* has."""
    if type(live) is not type(config) or not fields.granular(config, schema):
        return config
    if isinstance(config, dict):
        merged = dict(live)
        for name, value in config.items():
            inner = field_schema(schema, name)
            merged[name] = merge(live[name], value, inner) if name in live else value
        return merged
    return _merge_list(live, config, schema)


def _merge_list(live: list[Any], config: list[Any], schema: Schema) -> list[Any]:
    """Items in the applier's order if it names them all, else in the order that was there."""
    before = {fields.item_name(item, schema): item for item in live}
    wanted = {fields.item_name(item, schema): item for item in config}
    inner = schema.get("items") or {}
    merged = {
        name: merge(before[name], item, inner) if name in before else item
        for name, item in wanted.items()
    }
    if before.keys() <= wanted.keys():
        return list(merged.values())
    return list({**before, **merged}.values())


def remove(value: Any, gone: Fields, schema: Schema) -> Any:
    """*value* without the fields *gone*, nor what becomes empty by that."""
    if not gone or not fields.granular(value, schema):
        return value
    kept: list[tuple[str, Any]] = []
    for name, (part, inner) in fields.children(value, schema).items():
        node = gone.get(name)
        if node is None:
            kept.append((name, part))
        elif node and "." not in node:
            left = remove(part, node, inner)
            if left or not part:
                kept.append((name, left))
    if isinstance(value, list):
        return [part for _, part in kept]
    return {name.removeprefix("f:"): part for name, part in kept}
