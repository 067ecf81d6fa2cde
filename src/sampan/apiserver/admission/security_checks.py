"""The Pod Security Standards as a table of checks, in Kubernetes' words. Pure.

A check returns what is wrong, or "". Source: Kubernetes, "Pod Security Standards", and
k8s.io/pod-security-admission, policy.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from sampan.api.objects import Object

Find = Callable[[Object, Object], str]
"""From a Pod's metadata and spec to what is wrong."""

_CAPABILITIES: Final = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip
_SYSCTLS: Final = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
})  # fmt: skip
_SELINUX_TYPES: Final = frozenset({
    "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t",
})  # fmt: skip
_VOLUMES: Final = frozenset({
    "name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image",
    "persistentVolumeClaim", "projected", "secret",
})  # fmt: skip
_CONFINED: Final = frozenset({"RuntimeDefault", "Localhost"})
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


class Check(Struct, frozen=True):
    """*since* is the minor version of Kubernetes that has it; *replaces* is another's reason."""

    reason: str
    find: Find
    since: int = 0
    replaces: str = ""
    linux_only: bool = False


def containers(spec: Object) -> Iterator[Object]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _context(holder: Object) -> Object:
    return holder.get("securityContext") or {}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _named(word: str, names: Sequence[str]) -> str:
    return f"{word if len(names) == 1 else word + 's'} {_quoted(names)}"


def _offenders(spec: Object, is_bad: Callable[[Object], Any]) -> str:
    """The containers for which *is_bad*, named, or ""."""
    names = [c.get("name", "") for c in containers(spec) if is_bad(c)]
    return _named("container", names) if names else ""


def _setters(spec: Object, is_bad: Callable[[Object], Any]) -> str:
    """Who sets a bad value in a securityContext: the Pod, or which of its containers."""
    pod = "pod" if is_bad(_context(spec)) else ""
    bad = _offenders(spec, lambda c: is_bad(_context(c)))
    return " and ".join(filter(None, (pod, bad)))


def _contexts(spec: Object) -> Iterator[Object]:
    yield _context(spec)
    yield from map(_context, containers(spec))


def _app_armor(meta: Object, spec: Object) -> str:
    def bad(context: Object) -> Any:
        type_ = (context.get("appArmorProfile") or {}).get("type")
        return type_ not in {None, *_CONFINED} and type_

    values = sorted({found for context in _contexts(spec) if (found := bad(context))})
    setters = _setters(spec, bad)
    noted = sorted(
        f"{key}={value}"
        for key, value in (meta.get("annotations") or {}).items()
        if key.startswith(_APPARMOR) and not _allowed_annotation(value)
    )
    if noted:
        word = "annotation" if len(noted) == 1 else "annotations"
        setters = " and ".join(filter(None, (setters, word)))
    if not setters:
        return ""
    return f"{setters} must not set AppArmor profile type to {_quoted([*values, *noted])}"


def _allowed_annotation(value: str) -> bool:
    return value in {"", "runtime/default"} or value.startswith("localhost/")


def _added(container: Object) -> list[str]:
    return (_context(container).get("capabilities") or {}).get("add") or []


def _capabilities(allowed: frozenset[str]) -> Find:
    def find(_: Object, spec: Object) -> str:
        bad = sorted({cap for c in containers(spec) for cap in _added(c) if cap not in allowed})
        who = _offenders(spec, lambda c: set(_added(c)) - allowed)
        if not bad:
            return ""
        return f"{who} must not include {_quoted(bad)} in securityContext.capabilities.add"

    return find


def _dropped(meta: Object, spec: Object) -> str:
    def keeps(container: Object) -> bool:
        return "ALL" not in ((_context(container).get("capabilities") or {}).get("drop") or ())

    who = _offenders(spec, keeps)
    keeping = f'{who} must set securityContext.capabilities.drop=["ALL"]' if who else ""
    adding = _capabilities(frozenset({"NET_BIND_SERVICE"}))(meta, spec)
    return "; ".join(filter(None, (keeping, adding)))


def _host_namespaces(_: Object, spec: Object) -> str:
    used = [f"{f}=true" for f in ("hostNetwork", "hostPID", "hostIPC") if spec.get(f)]
    return ", ".join(used)


def _host_paths(_: Object, spec: Object) -> str:
    names = [v.get("name", "") for v in spec.get("volumes") or () if "hostPath" in v]
    return _named("volume", names) if names else ""


def _host_ports(_: Object, spec: Object) -> str:
    def ports(container: Object) -> list[str]:
        return [str(p["hostPort"]) for p in container.get("ports") or () if p.get("hostPort")]

    who = [c.get("name", "") for c in containers(spec) if ports(c)]
    used = sorted({port for c in containers(spec) for port in ports(c)})
    if not who:
        return ""
    verb = "uses" if len(who) == 1 else "use"
    word = "hostPort" if len(used) == 1 else "hostPorts"
    return f"{_named('container', who)} {verb} {word} {', '.join(used)}"


def _hosts(container: Object) -> list[str]:
    handlers = [container.get(field) or {} for field in _PROBES]
    handlers += (container.get("lifecycle") or {}).values()
    found = [(h.get(how) or {}).get("host") for h in handlers for how in ("httpGet", "tcpSocket")]
    return [host for host in found if host]


def _probe_hosts(_: Object, spec: Object) -> str:
    who = [c.get("name", "") for c in containers(spec) if _hosts(c)]
    used = sorted({host for c in containers(spec) for host in _hosts(c)})
    if not who:
        return ""
    verb = "uses" if len(who) == 1 else "use"
    word = "host" if len(used) == 1 else "hosts"
    return f"{_named('container', who)} {verb} probe or lifecycle {word} {_quoted(used)}"


def _privileged(_: Object, spec: Object) -> str:
    who = _offenders(spec, lambda c: _context(c).get("privileged"))
    return f"{who} must not set securityContext.privileged=true" if who else ""


def _proc_mount(_: Object, spec: Object) -> str:
    def bad(context: Object) -> Any:
        return context.get("procMount") not in {None, "Default"} and context["procMount"]

    who = _offenders(spec, lambda c: bad(_context(c)))
    values = sorted({bad(context) for context in _contexts(spec) if bad(context)})
    return f"{who} must not set securityContext.procMount to {_quoted(values)}" if who else ""


def _se_linux(_: Object, spec: Object) -> str:
    def options(context: Object) -> Object:
        return context.get("seLinuxOptions") or {}

    def bad(context: Object) -> bool:
        found = options(context)
        wrong = found.get("type", "") not in _SELINUX_TYPES
        return bool(wrong or found.get("user") or found.get("role"))

    who = _setters(spec, bad)
    if not who:
        return ""
    all_of = [options(context) for context in _contexts(spec)]
    types = sorted({o.get("type", "") for o in all_of} - _SELINUX_TYPES)
    told = [f"{'type' if len(types) == 1 else 'types'} {_quoted(types)}"] if types else []
    told += [f"{f} may not be set" for f in ("user", "role") if any(o.get(f) for o in all_of)]
    return f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(told)}"


def _seccomp_type(context: Object) -> str:
    return str((context.get("seccompProfile") or {}).get("type") or "")


def _seccomp(_: Object, spec: Object) -> str:
    def bad(context: Object) -> str:
        type_ = _seccomp_type(context)
        return "" if type_ in {"", *_CONFINED} else type_

    who = _setters(spec, bad)
    values = sorted({bad(context) for context in _contexts(spec)} - {""})
    if not who:
        return ""
    return f"{who} must not set securityContext.seccompProfile.type to {_quoted(values)}"


def _seccomp_set(meta: Object, spec: Object) -> str:
    if wrong := _seccomp(meta, spec):
        return wrong
    if _seccomp_type(_context(spec)):
        return ""
    who = _offenders(spec, lambda c: not _seccomp_type(_context(c)))
    wanted = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return f"pod or {who} must set {wanted}" if who else ""


def _sysctls(_: Object, spec: Object) -> str:
    names = [s.get("name", "") for s in _context(spec).get("sysctls") or ()]
    return ", ".join(name for name in names if name not in _SYSCTLS)


def _host_process(_: Object, spec: Object) -> str:
    who = _setters(spec, lambda c: (c.get("windowsOptions") or {}).get("hostProcess"))
    return f"{who} must not set securityContext.windowsOptions.hostProcess=true" if who else ""


def _escalation(_: Object, spec: Object) -> str:
    who = _offenders(spec, lambda c: _context(c).get("allowPrivilegeEscalation") is not False)
    return f"{who} must set securityContext.allowPrivilegeEscalation=false" if who else ""


def _volume_types(_: Object, spec: Object) -> str:
    bad = [v for v in spec.get("volumes") or () if v.keys() - _VOLUMES]
    types = sorted({type_ for v in bad for type_ in v.keys() - _VOLUMES})
    if not bad:
        return ""
    verb = "uses" if len(bad) == 1 else "use"
    word = "restricted volume type" if len(types) == 1 else "restricted volume types"
    return f"{_named('volume', [v.get('name', '') for v in bad])} {verb} {word} {_quoted(types)}"


def _non_root(_: Object, spec: Object) -> str:
    who = _setters(spec, lambda c: c.get("runAsNonRoot") is False)
    if who:
        return f"{who} must not set securityContext.runAsNonRoot=false"
    if _context(spec).get("runAsNonRoot"):
        return ""
    who = _offenders(spec, lambda c: not _context(c).get("runAsNonRoot"))
    return f"pod or {who} must set securityContext.runAsNonRoot=true" if who else ""


def _root_user(_: Object, spec: Object) -> str:
    who = _setters(spec, lambda c: c.get("runAsUser") == 0)
    return f"{who} must not set runAsUser=0" if who else ""


BASELINE: Final = (
    Check("forbidden AppArmor profile", _app_armor),
    Check("non-default capabilities", _capabilities(_CAPABILITIES)),
    Check("host namespaces", _host_namespaces),
    Check("hostPath volumes", _host_paths),
    Check("hostPort", _host_ports),
    Check("probe or lifecycle host", _probe_hosts, since=34),
    Check("privileged", _privileged),
    Check("procMount", _proc_mount),
    Check("seLinuxOptions", _se_linux),
    Check("seccompProfile", _seccomp, since=19),
    Check("forbidden sysctls", _sysctls),
    Check("hostProcess", _host_process),
)
RESTRICTED: Final = (
    Check("allowPrivilegeEscalation != false", _escalation, since=8, linux_only=True),
    Check("unrestricted capabilities", _dropped, since=22,
          replaces="non-default capabilities", linux_only=True),
    Check("restricted volume types", _volume_types, replaces="hostPath volumes"),
    Check("runAsNonRoot != true", _non_root),
    Check("runAsUser=0", _root_user, since=23),
    Check("seccompProfile", _seccomp_set, since=19, replaces="seccompProfile", linux_only=True),
)  # fmt: skip
