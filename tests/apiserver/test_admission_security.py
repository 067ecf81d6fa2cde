"""PodSecurity: what each level forbids, in Kubernetes' words, and which label does what."""

from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Forbidden, Invalid
from sampan.api.objects import Object
from sampan.apiserver.admission import security
from sampan.apiserver.admission.security import LABEL, Standard, told, violations
from sampan.apiserver.interface import Place
from tests.apiserver.support import Api, call, deployment, pod

GOOD: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def secured(context: Object | None = None, **spec: Any) -> Object:
    made = pod(**spec)
    if context is not None:
        made["spec"]["containers"][0]["securityContext"] = context
    return made


def wrong(made: Object, level: str = "baseline", version: str = "latest") -> str:
    return told(violations(made["metadata"], made["spec"], Standard(level, version)))


C = 'container "main"'
BASELINE = [
    (secured({"privileged": True}),
     f"privileged ({C} must not set securityContext.privileged=true)"),
    (secured(hostNetwork=True, hostPID=True),
     "host namespaces (hostNetwork=true, hostPID=true)"),
    (secured(volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
     'hostPath volumes (volume "v")'),
    (secured({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}),
     (f'non-default capabilities ({C} must not include "NET_ADMIN" in '
     "securityContext.capabilities.add)")),
    (secured({"procMount": "Unmasked"}),
     f'procMount ({C} must not set securityContext.procMount to "Unmasked")'),
    (secured({"seccompProfile": {"type": "Unconfined"}}),
     f'seccompProfile ({C} must not set securityContext.seccompProfile.type to "Unconfined")'),
    (secured(securityContext={"seLinuxOptions": {"type": "spc_t", "user": "u"}}),
     ('seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may '
     "not be set)")),
    (secured(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
     "forbidden sysctls (kernel.msgmax)"),
    (secured({"windowsOptions": {"hostProcess": True}}),
     f"hostProcess ({C} must not set securityContext.windowsOptions.hostProcess=true)"),
    (secured({"appArmorProfile": {"type": "Unconfined"}}),
     f'forbidden AppArmor profile ({C} must not set AppArmor profile type to "Unconfined")'),
]  # fmt: skip


@pytest.mark.parametrize(("made", "why"), BASELINE)
def test_baseline_forbids_what_reaches_the_host(made: Object, why: str) -> None:
    assert wrong(made) == why
    assert wrong(made, "privileged") == ""


def test_baseline_allows_a_plain_pod_and_safe_settings() -> None:
    assert wrong(pod()) == ""
    assert wrong(secured({"capabilities": {"add": ["CHOWN"]}})) == ""
    safe = {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}
    assert wrong(secured(securityContext=safe)) == ""


def test_host_ports_and_hosts_of_probes_are_named() -> None:
    made = pod()
    made["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
    assert wrong(made) == f"hostPort ({C} uses hostPort 80)"
    made = pod()
    made["spec"]["containers"][0]["livenessProbe"] = {"httpGet": {"host": "10.0.0.1", "port": 1}}
    assert wrong(made) == f'probe or lifecycle host ({C} uses probe or lifecycle host "10.0.0.1")'
    assert wrong(made, version="v1.33") == ""


def test_restricted_wants_more_and_says_all_of_it_at_once() -> None:
    assert wrong(pod(), "restricted") == (
        f"allowPrivilegeEscalation != false ({C} must set "
        "securityContext.allowPrivilegeEscalation=false), "
        f'unrestricted capabilities ({C} must set securityContext.capabilities.drop=["ALL"]), '
        f"runAsNonRoot != true (pod or {C} must set securityContext.runAsNonRoot=true), "
        f"seccompProfile (pod or {C} must set securityContext.seccompProfile.type to "
        '"RuntimeDefault" or "Localhost")'
    )
    assert wrong(secured(GOOD), "restricted") == ""


RESTRICTED = [
    (secured(GOOD, volumes=[{"name": "v", "nfs": {"server": "s", "path": "/"}}]),
     'restricted volume types (volume "v" uses restricted volume type "nfs")'),
    (secured({**GOOD, "runAsUser": 0}), f"runAsUser=0 ({C} must not set runAsUser=0)"),
    (secured({**GOOD, "runAsNonRoot": False}),
     f"runAsNonRoot != true ({C} must not set securityContext.runAsNonRoot=false)"),
    (secured({**GOOD, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}),
     (f'unrestricted capabilities ({C} must not include "CHOWN" in '
     "securityContext.capabilities.add)")),
]  # fmt: skip


@pytest.mark.parametrize(("made", "why"), RESTRICTED)
def test_restricted_forbids(made: Object, why: str) -> None:
    assert wrong(made, "restricted") == why


def test_settings_of_the_pod_hold_for_its_containers() -> None:
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "Localhost"}}
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert wrong(secured(own, securityContext=context), "restricted") == ""


async def labelled(api: Api, **modes: str) -> None:
    labels = {LABEL + mode.replace("_", "-"): level for mode, level in modes.items()}
    await api.patch(kinds.NAMESPACES, "default", {"metadata": {"labels": labels}})


async def test_enforce_refuses_pods_but_not_what_makes_them(api: Api) -> None:
    await labelled(api, enforce="baseline")
    bad = secured({"privileged": True})
    with pytest.raises(Forbidden) as refused:
        await api.create(kinds.PODS, bad)
    assert refused.value.message == (
        'pods "web" is forbidden: violates PodSecurity "baseline:latest": privileged '
        '(container "main" must not set securityContext.privileged=true)'
    )
    template = {"metadata": {"labels": {"app": "web"}}, "spec": bad["spec"]}
    await api.create(kinds.DEPLOYMENTS, deployment(template=template))


async def test_warn_warns_of_pods_and_of_workloads_templates(api: Api) -> None:
    await labelled(api, warn="restricted")
    for kind, obj in ((kinds.PODS, pod()), (kinds.DEPLOYMENTS, deployment())):
        warnings: list[str] = []
        await api.create(kind, obj, warnings=warnings)
        [text] = warnings
        assert text.startswith('would violate PodSecurity "restricted:latest": allowPriv')


async def test_a_debug_container_is_looked_at_as_well(api: Api) -> None:
    await labelled(api, enforce="baseline")
    await api.create(kinds.PODS, pod())
    debugger = {"name": "d", "image": "x", "securityContext": {"privileged": True}}
    patch = {"spec": {"ephemeralContainers": [debugger]}}
    with pytest.raises(Forbidden, match='privileged \\(container "d" must not'):
        await api.patch(kinds.PODS, "web", patch, "ephemeralcontainers")


async def test_tightening_a_namespace_warns_of_pods_that_are_there(api: Api) -> None:
    for name in ("a", "b"):
        await api.create(kinds.PODS, secured({"privileged": True}) | {"metadata": {"name": name}})
    warnings: list[str] = []
    labels = {"metadata": {"labels": {LABEL + "enforce": "baseline"}}}
    await api.patch(kinds.NAMESPACES, "default", labels, warnings=warnings)
    assert warnings == [
        (
            'existing pods in namespace "default" violate the new PodSecurity enforce level '
            '"baseline:latest"'
        ),
        "a (and 1 other pod): privileged",
    ]


async def test_a_level_that_is_none_is_refused(api: Api) -> None:
    space = {"metadata": {"name": "n", "labels": {LABEL + "enforce": "strict"}}}
    with pytest.raises(Invalid, match="must be one of privileged, baseline, restricted"):
        await api.registry.create(Place(kinds.NAMESPACES), space, call())
    space["metadata"]["labels"] = {LABEL + "warn-version": "1.30"}
    with pytest.raises(Invalid, match=r'must be "latest" or "v1\.x"'):
        await api.registry.create(Place(kinds.NAMESPACES), space, call())


def test_every_kind_with_a_template_is_known() -> None:
    spec: Object = {"spec": {"containers": []}}
    cron = {"spec": {"jobTemplate": {"spec": {"template": spec}}}}
    assert security.template("cronjobs.batch", cron) == spec
    assert security.template("daemonsets.apps", {"spec": {"template": spec}}) == spec
    assert security.template("services", {"spec": {}}) is None
