"""Write docs/kubernetes-compatibility.md from the code.

A test compares the page with what this would write, and the table of kinds with the official
Python client, so that neither can promise what is not so.
"""

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import sampan
from sampan.api.kinds import KINDS, STANDARD_VERBS, Kind
from sampan.api.objects import Resource
from sampan.apiserver import discovery, schemas

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "kubernetes-compatibility.md"
_ACTORS: Final = ("controllers", "scheduler", "agent", "net")

PARAMETERS: Final[Sequence[tuple[str, str, str, str]]] = (
    ("labelSelector", "list, watch, deletecollection", "yes", "all forms"),
    ("fieldSelector", "list, watch, deletecollection", "yes", "as in Kubernetes, by kind"),
    ("limit", "list", "yes", "pages of one snapshot, 32 lists at a time"),
    ("continue", "list", "yes", "410 with a token to go on, when the snapshot is gone"),
    ("resourceVersion", "list, watch", "yes", "watches reach back 10 000 changes, then 410"),
    ("resourceVersionMatch", "list", "yes", "`Exact` only of the newest, else 410"),
    ("watch", "list", "yes", ""),
    ("allowWatchBookmarks", "watch", "yes", "every 30 s of silence"),
    ("sendInitialEvents", "watch", "yes", "streaming lists"),
    ("timeoutSeconds", "watch", "yes", "else 30 to 60 min, random"),
    ("shardSelector", "list, watch", "no", "alpha in 1.37"),
    ("dryRun", "all writes", "yes", "`All`"),
    ("fieldManager", "create, update, patch", "yes", "else the first word of the User-Agent"),
    ("fieldValidation", "create, update, patch", "yes", "`Strict`, `Warn` (default), `Ignore`"),
    ("force", "apply", "yes", ""),
    ("pretty", "all", "yes", ""),
    ("gracePeriodSeconds", "delete", "yes", "also in DeleteOptions"),
    ("propagationPolicy", "delete", "yes", "`Background`, `Foreground`, `Orphan`"),
    ("orphanDependents", "delete", "yes", "deprecated; not together with propagationPolicy"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "delete", "no",
     "objects are checked when they are written, and a damaged database does not start"),
    ("includeObject", "Tables", "yes", "`None`, `Metadata`, `Object`"),
)  # fmt: skip

FORMS: Final[Sequence[tuple[str, str, str]]] = (
    ("JSON and YAML bodies and answers", "yes", "YAML without aliases"),
    ("Protobuf bodies", "yes", "the typed clients inside kubectl send them"),
    ("Protobuf answers", "no", "clients that prefer them accept JSON too, and get that"),
    ("CBOR", "no", "beta, and off by default in Kubernetes"),
    ("Table, PartialObjectMetadata", "yes", "kubectl's columns for every kind"),
    ("gzip", "yes", "answers above 128 KiB"),
    ("JSON patch, merge patch, strategic merge patch, server-side apply", "yes",
     "strategic merge for kinds with a published schema, as in Kubernetes"),
    ("Aggregated and legacy discovery", "yes", ""),
    ("OpenAPI v2 and v3", "yes", "v2 as JSON and protobuf, v3 a group"),
    ("exec, attach over WebSocket v4, v5 and SPDY", "yes", ""),
    ("port-forward over WebSocket (tunnelled SPDY, and channels) and SPDY", "yes", ""),
    ("HTTP/2", "no", "HTTP/1.1 with keep-alive: clients choose it by ALPN"),
    ("Aggregated API servers (APIService)", "no", "objects are kept; nothing is proxied"),
    ("Priority and fairness", "no", "objects are kept; requests take turns"),
)  # fmt: skip


def page() -> str:
    return "\n".join([*_introduction(), *_kinds(), *_missing(), *_parameters(), *_forms()]) + "\n"


def _introduction() -> Iterable[str]:
    yield "# What of Kubernetes 1.37 is served"
    yield ""
    yield "Written by `scripts/kubernetes_compatibility.py` from the code; do not edit."
    yield ""


def _kinds() -> Iterable[str]:
    actors = _who_acts()
    yield "## Kinds"
    yield ""
    yield (
        "*Standard* verbs are create, delete, deletecollection, get, list, patch, update, watch. "
        "Every kind is defaulted, validated, stored, listed and watched; *acted on by* says who "
        "follows it beyond the API server itself, `-` that nobody has to, or nobody does yet."
    )
    yield ""
    yield "| kind | group and version | scope | short names | verbs | subresources | acted on by |"
    yield "|---|---|---|---|---|---|---|"
    for kind in sorted(KINDS, key=lambda k: (k.group, k.kind, k.version)):
        scope = "namespace" if kind.namespaced else "cluster"
        cells = (kind.kind, kind.api_version, scope, ", ".join(kind.short_names), _verbs(kind),
                 _subresources(kind), actors.get(kind.resource, "-"))  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""


def _verbs(kind: Kind) -> str:
    return "standard" if set(kind.verbs) == set(STANDARD_VERBS) else ", ".join(sorted(kind.verbs))


def _subresources(kind: Kind) -> str:
    return ", ".join(
        f"{name} ({', '.join(sorted(discovery.subresource(kind, name)[1]))})"
        for name in sorted(kind.subresources)
    )


def _who_acts() -> Mapping[str, str]:
    """Which parts have a typed view of a kind, and so follow it."""
    for part in _ACTORS:
        package = importlib.import_module(f"sampan.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"sampan.{part}."):
            importlib.import_module(module.name)
    found: defaultdict[str, set[str]] = defaultdict(set)
    waiting = list(Resource.__subclasses__())
    while waiting:
        view = waiting.pop()
        waiting += view.__subclasses__()
        part = view.__module__.removeprefix(f"{sampan.__name__}.").partition(".")[0]
        if part in {*_ACTORS, "api"} and hasattr(view, "KIND"):
            found[view.KIND.resource].add(part)
    shared = {"api": "control plane and agents"}
    return {
        resource: ", ".join(sorted(shared.get(part, part) for part in parts))
        for resource, parts in found.items()
    }


def missing() -> Sequence[tuple[str, str]]:
    """Versions and kinds that Kubernetes publishes as stable, and that are not served."""
    served = {(kind.group, kind.version, kind.kind) for kind in KINDS}
    return sorted(
        (f"{group}/{version}" if group else version, kind)
        for (group, version, kind), name in schemas._names().items()  # noqa: SLF001 - the one index there is
        if version in {"v1", "v2"}
        and "metadata" in schemas.types()[name].get("properties", {})
        and not kind.endswith("List")
        and (group, version, kind) not in served
    )


WHY_NOT: Final[Mapping[str, str]] = {
    "Eviction": "served as `pods/eviction`",
    "Scale": "served as the subresource `scale`",
    "TokenRequest": "served as `serviceaccounts/token`",
    "Status": "an answer, not a resource",
}


def _missing() -> Iterable[str]:
    yield "## Stable kinds that are no resource of their own here"
    yield ""
    yield "| kind | group and version | why |"
    yield "|---|---|---|"
    for version, kind in missing():
        yield f"| {kind} | {version} | {WHY_NOT.get(kind, 'not yet')} |"
    yield ""
    yield "Alpha and beta versions are not served."
    yield ""


def _parameters() -> Iterable[str]:
    yield "## Parameters"
    yield ""
    yield "| parameter | of | served | note |"
    yield "|---|---|---|---|"
    for row in PARAMETERS:
        yield f"| {' | '.join(row)} |"
    yield ""


def _forms() -> Iterable[str]:
    yield "## Forms and protocols"
    yield ""
    yield "| what | served | note |"
    yield "|---|---|---|"
    for row in FORMS:
        yield f"| {' | '.join(row)} |"


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
