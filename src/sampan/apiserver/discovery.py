"""What is served here, told to clients: groups, versions, resources, verbs, short names.

Everything is derived from the kinds that are served, so that a kind and its discovery cannot
disagree. Clients of today ask once for the aggregated form; older ones walk the legacy documents.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from sampan.api.kinds import Kind

Object = dict[str, Any]

AGGREGATED: Final = "APIGroupDiscoveryList"
_READ_WRITE: Final = ("get", "patch", "update")
_CONNECT: Final = ("create", "get")
_EVERY: Final = ("create", "delete", "get", "patch", "update")

# The kind that a subresource speaks, where that is not its parent's, and its verbs.
_SUBRESOURCES: Final[Mapping[str, tuple[tuple[str, str, str] | None, Sequence[str]]]] = {
    "status": (None, _READ_WRITE),
    "finalize": (None, ("update",)),
    "approval": (None, _READ_WRITE),
    "ephemeralcontainers": (None, _READ_WRITE),
    "resize": (None, _READ_WRITE),
    "log": (None, ("get",)),
    "scale": (("autoscaling", "v1", "Scale"), _READ_WRITE),
    "binding": (("", "v1", "Binding"), ("create",)),
    "eviction": (("policy", "v1", "Eviction"), ("create",)),
    "token": (("authentication.k8s.io", "v1", "TokenRequest"), ("create",)),
    "attach": (("", "v1", "PodAttachOptions"), _CONNECT),
    "exec": (("", "v1", "PodExecOptions"), _CONNECT),
    "portforward": (("", "v1", "PodPortForwardOptions"), _CONNECT),
}
_PROXY_OPTIONS: Final = {
    "Pod": "PodProxyOptions",
    "Service": "ServiceProxyOptions",
    "Node": "NodeProxyOptions",
}


def subresource(kind: Kind, name: str) -> tuple[tuple[str, str, str], Sequence[str]]:
    """The group, version and kind that a subresource speaks, and its verbs."""
    own = (kind.group, kind.version, kind.kind)
    if name == "proxy":
        return ("", "v1", _PROXY_OPTIONS[kind.kind]), _EVERY
    spoken, verbs = _SUBRESOURCES[name]
    return spoken or own, verbs


def _groups(kinds: Iterable[Kind]) -> list[tuple[str, dict[str, list[Kind]]]]:
    """Group by API group, core first, then by version in order of preference."""
    ordered = sorted(kinds, key=lambda kind: kind.group)
    return [(group, _versions(list(members))) for group, members in groupby(ordered, _group_of)]


def _group_of(kind: Kind) -> str:
    return kind.group


def _versions(kinds: list[Kind]) -> dict[str, list[Kind]]:
    versions = sorted({kind.version for kind in kinds}, key=version_priority)
    return {version: [k for k in kinds if k.version == version] for version in versions}


def version_priority(version: str) -> tuple[int, int, int]:
    """Sort key of Kubernetes' version priority: v2, v1, v2beta1, v1beta1, v1alpha1."""
    for rank, stage in enumerate(("alpha", "beta")):
        if stage in version:
            major, _, minor = version.removeprefix("v").partition(stage)
            return (2 - rank, -int(major or 0), -int(minor or 0))
    number = version.removeprefix("v")
    return (0, -int(number), 0) if number.isdigit() else (3, 0, 0)


def aggregated(kinds: Iterable[Kind], *, core: bool, version: str = "v2") -> Object:
    """The whole of `/api` (*core*) or `/apis` in one document."""
    items = [
        _aggregated_group(group, versions)
        for group, versions in _groups(kinds)
        if core is (group == "")
    ]
    return {
        "kind": AGGREGATED,
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_group(group: str, versions: Mapping[str, Sequence[Kind]]) -> Object:
    listed = [
        {
            "version": version,
            "resources": [_aggregated_resource(kind) for kind in kinds],
            "freshness": "Current",
        }
        for version, kinds in versions.items()
    ]
    metadata = {"name": group} if group else {}
    return {"metadata": {**metadata, "creationTimestamp": None}, "versions": listed}


def _aggregated_resource(kind: Kind) -> Object:
    found: Object = {
        "resource": kind.plural,
        "responseKind": _gvk((kind.group, kind.version, kind.kind)),
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        found["shortNames"] = list(kind.short_names)
    if kind.categories:
        found["categories"] = list(kind.categories)
    if kind.subresources:
        found["subresources"] = [_aggregated_subresource(kind, s) for s in kind.subresources]
    return found


def _aggregated_subresource(kind: Kind, name: str) -> Object:
    spoken, verbs = subresource(kind, name)
    return {"subresource": name, "responseKind": _gvk(spoken), "verbs": list(verbs)}


def _gvk(spoken: tuple[str, str, str]) -> Object:
    group, version, kind = spoken
    return {"group": group, "version": version, "kind": kind}


def api_versions(server_address: str) -> Object:
    """The legacy `/api`."""
    address = {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [address],
    }


def group_list(kinds: Iterable[Kind]) -> Object:
    """The legacy `/apis`."""
    groups = [_group(name, list(versions)) for name, versions in _groups(kinds) if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(kinds: Iterable[Kind], name: str) -> Object | None:
    """The legacy `/apis/GROUP`; None if there is no such group."""
    versions = dict(_groups(kinds)).get(name)
    if not name or versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, list(versions))}


def _group(name: str, versions: Sequence[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resource_list(kinds: Iterable[Kind], group: str, version: str) -> Object | None:
    """The legacy `/api/v1` or `/apis/GROUP/VERSION`; None if there is no such version."""
    mine = [kind for kind in kinds if (kind.group, kind.version) == (group, version)]
    if not mine:
        return None
    resources = [entry for kind in mine for entry in _resources(kind)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": mine[0].api_version,
        "resources": sorted(resources, key=lambda entry: str(entry["name"])),
    }


def _resources(kind: Kind) -> Iterable[Object]:
    entry: Object = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    yield entry
    for name in kind.subresources:
        (group, version, spoken), verbs = subresource(kind, name)
        sub: Object = {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": spoken,
            "verbs": list(verbs),
        }
        if (group, version) != (kind.group, kind.version):
            sub |= {"group": group, "version": version}
        yield sub
