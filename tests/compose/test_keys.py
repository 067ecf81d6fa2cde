"""A case for every key of the specification: what becomes of it, or how it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.compose.keys import SERVICE, TOP, Treatment
from sampan.compose.objects import cautions, convert
from tests.compose.support import Object, container, objects, pod, project, refusals, service

Made = dict[str, Object]
Check = Callable[[Made], Any]


def meta(made: Made) -> Object:
    return dict(made["Deployment/web"]["spec"]["template"]["metadata"])


def spec(made: Made, name: str = "Deployment/web") -> Object:
    return dict(made[name]["spec"])


def env(made: Made) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(made)["env"]}


def of_container(*path: str) -> Check:
    def look(made: Made) -> Any:
        value: Any = container(made)
        for key in path:
            value = value[key]
        return value

    return look


def of_pod(key: str) -> Check:
    return lambda made: pod(made)[key]


def ports(name: str) -> Check:
    return lambda made: [
        (p["port"], p["targetPort"], p["protocol"]) for p in spec(made, f"Service/{name}")["ports"]
    ]


def volume(made: Made) -> tuple[Object, Object]:
    """The one volume and its mount, without the name that joins them."""
    [held] = pod(made)["volumes"]
    [mount] = container(made)["volumeMounts"]
    assert held["name"] == mount["name"]
    return (
        {key: value for key, value in held.items() if key != "name"},
        {key: value for key, value in mount.items() if key != "name"},
    )


def rolling(made: Made) -> tuple[Any, Any]:
    limits = spec(made)["strategy"]["rollingUpdate"]
    return limits["maxSurge"], limits["maxUnavailable"]


def on_failure(made: Made) -> Any:
    return made["Deployment/web"]["metadata"].get("annotations", {}).get("sampan.io/on-failure")


RULES = {"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["hdd"]}]}
MEMORY = {"medium": "Memory"}
PROBE = {"exec": {"command": ["/bin/sh", "-c", "true"]}, "timeoutSeconds": 2}
HEALTH = "healthcheck: {test: 'true', interval: 3s, timeout: 1500ms, retries: 4, start_period: 2m, start_interval: 5s}"  # noqa: E501

CASES: list[tuple[str, Check, Any]] = [
    ("image: registry/x:1", of_container("image"), "registry/x:1"),
    ("command: [a, b c]", of_container("args"), ["a", "b c"]),
    ("command: a 'b c' $$(X) $$$$ $$HOME", of_container("args"), ["a", "b c", "$$(X)", "$$$", "$HOME"]),  # noqa: E501
    ("entrypoint: [a]\ncommand: b", lambda m: (container(m)["command"], container(m)["args"]), (["a"], ["b"])),  # noqa: E501
    ("entrypoint: []\ncommand: [b]", lambda m: (container(m)["command"], "args" in container(m)), (["b"], False)),  # noqa: E501
    ("environment: {A: 1, B: 1.10, C: true, D: , E: $$(A)}", env, {"A": "1", "B": "1.10", "C": "true", "E": "$$(A)"}),  # noqa: E501
    ("environment: [A=1=2, FROM_SHELL, NOT_SET]", env, {"A": "1=2", "FROM_SHELL": "yes"}),
    ("env_file: vars", env, {"IN_FILE": "1"}),
    ("env_file: [vars, {path: none, required: false}]\nenvironment: {IN_FILE: 2}", env, {"IN_FILE": "2"}),  # noqa: E501
    ("working_dir: /w", of_container("workingDir"), "/w"),
    ("read_only: true", of_container("securityContext"), {"readOnlyRootFilesystem": True}),
    ("privileged: true", of_container("securityContext"), {"privileged": True}),
    ("cap_add: [CAP_NET_ADMIN]\ncap_drop: [ALL]", of_container("securityContext", "capabilities"), {"add": ["NET_ADMIN"], "drop": ["ALL"]}),  # noqa: E501
    ("tty: true\nstdin_open: true", lambda m: (container(m)["tty"], container(m)["stdin"]), (True, True)),  # noqa: E501
    ("hostname: box", of_pod("hostname"), "box"),
    ("attach: false", container, None),
    ("user: '1000:200'", of_container("securityContext"), {"runAsUser": 1000, "runAsGroup": 200}),
    ("group_add: [7, '8']", of_pod("securityContext"), {"supplementalGroups": [7, 8]}),
    ("annotations: {a/b: any text}", lambda m: meta(m)["annotations"], {"a/b": "any text"}),
    ("labels: {tier: web, rule: Host(`x`)}", lambda m: (meta(m)["labels"]["tier"], meta(m)["annotations"]), ("web", {"rule": "Host(`x`)"})),  # noqa: E501
    ("label_file: labels", lambda m: meta(m)["labels"]["from"], "file"),
    ("ports: ['8080:80', 53/udp]\nexpose: [9000]", ports("web"), [(80, 80, "TCP"), (53, 53, "UDP"), (9000, 9000, "TCP")]),  # noqa: E501
    ("ports: ['8080:80', '0.0.0.0:9000-9001:90-91']", ports("web-published"), [(8080, 80, "TCP"), (9000, 90, "TCP"), (9001, 91, "TCP")]),  # noqa: E501
    ("ports: ['8080:80']", lambda m: spec(m, "Service/web-published")["type"], "LoadBalancer"),
    ("ports: [80]", lambda m: spec(m, "Service/web-published")["type"], "NodePort"),
    ("ports: [{target: 80, published: '8080', protocol: udp, mode: ingress, host_ip: 0.0.0.0}]", ports("web-published"), [(8080, 80, "UDP")]),  # noqa: E501
    ("ports: [{target: 80, name: page, app_protocol: http}]", lambda m: [(p["name"], p["appProtocol"]) for p in spec(m, "Service/web")["ports"]], [("page", "http")]),  # noqa: E501
    ("expose: ['9000']", lambda m: ("Service/web-published" in m, "clusterIP" in spec(m, "Service/web")), (False, False)),  # noqa: E501
    ("image: no-ports", lambda m: spec(m, "Service/web")["clusterIP"], "None"),
    ("volumes: ['/node/path:/p:ro']", volume, ({"hostPath": {"path": "/node/path"}}, {"mountPath": "/p", "readOnly": True})),  # noqa: E501
    ("volumes: [/cache]", volume, ({"emptyDir": {}}, {"mountPath": "/cache"})),
    ("volumes: [{type: volume, target: /c, volume: {subpath: a, nocopy: true}}]", volume, ({"emptyDir": {}}, {"mountPath": "/c", "subPath": "a"})),  # noqa: E501
    ("volumes: [{type: volume, target: /cache}]", volume, ({"emptyDir": {}}, {"mountPath": "/cache"})),  # noqa: E501
    ("volumes: [{type: bind, source: /a, target: /p, read_only: true, bind: {create_host_path: true}}]", volume, ({"hostPath": {"path": "/a"}}, {"mountPath": "/p", "readOnly": True})),  # noqa: E501
    ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 64m}}]", volume, ({"emptyDir": MEMORY | {"sizeLimit": "67108864"}}, {"mountPath": "/t"})),  # noqa: E501
    ("volumes: ['./vars:/etc/vars']", lambda m: volume(m)[1], {"mountPath": "/etc/vars", "readOnly": True, "subPath": "vars"}),  # noqa: E501
    ("tmpfs: '/t:size=1k,mode=1777'", volume, ({"emptyDir": MEMORY | {"sizeLimit": "1024"}}, {"mountPath": "/t"})),  # noqa: E501
    ("shm_size: 1gb", volume, ({"emptyDir": MEMORY | {"sizeLimit": "1073741824"}}, {"mountPath": "/dev/shm"})),  # noqa: E501
    ("depends_on: [db]", lambda m: meta(m)["annotations"], {"sampan.io/after": "db=started"}),
    ("depends_on: {db: {condition: service_healthy, restart: false}, no: {condition: service_started, required: false}}", lambda m: meta(m)["annotations"], {"sampan.io/after": "db=ready"}),  # noqa: E501
    (HEALTH, of_container("readinessProbe"), PROBE | {"periodSeconds": 3, "failureThreshold": 4}),
    (HEALTH, of_container("livenessProbe"), PROBE | {"periodSeconds": 3, "failureThreshold": 4}),
    (HEALTH, of_container("startupProbe"), PROBE | {"periodSeconds": 5, "failureThreshold": 27}),
    ("healthcheck: {test: [CMD, a, b]}", of_container("startupProbe"), {"exec": {"command": ["a", "b"]}, "timeoutSeconds": 30, "periodSeconds": 1, "failureThreshold": 90}),  # noqa: E501
    ("healthcheck: {test: [CMD-SHELL, a b]}", of_container("livenessProbe", "exec", "command"), ["/bin/sh", "-c", "a b"]),  # noqa: E501
    ("healthcheck: {test: [NONE]}", lambda m: "livenessProbe" in container(m), False),
    ("healthcheck: {disable: true}", lambda m: "livenessProbe" in container(m), False),
    ("restart: unless-stopped", lambda m: "restartPolicy" in pod(m), False),
    ("scale: 3", lambda m: spec(m)["replicas"], 3),
    ("deploy: {replicas: 4, mode: replicated}", lambda m: spec(m)["replicas"], 4),
    ("deploy: {endpoint_mode: dnsrr}\nports: ['8080:80']", lambda m: spec(m, "Service/web")["clusterIP"], "None"),  # noqa: E501
    ("deploy: {labels: {a: b}}", lambda m: m["Deployment/web"]["metadata"]["labels"]["a"], "b"),
    ("image: x", rolling, ("25%", 0)),
    ("deploy: {update_config: {parallelism: 2, order: start-first, failure_action: pause, delay: 0s}}", rolling, (2, 0)),  # noqa: E501
    ("deploy: {update_config: {failure_action: pause}}", on_failure, None),
    ("deploy: {update_config: {failure_action: rollback}}", on_failure, "rollback"),
    ("image: x", on_failure, "rollback"),
    ("image: x", of_container("terminationMessagePolicy"), "FallbackToLogsOnError"),
    ("deploy: {update_config: {parallelism: 2}}", rolling, (0, 2)),
    ("deploy: {update_config: {parallelism: 0}}", rolling, (0, "100%")),
    ("deploy: {resources: {limits: {cpus: '0.5', memory: 64M}}}", of_container("resources"), {"limits": {"cpu": "500m", "memory": "67108864"}, "requests": {"cpu": "0", "memory": "0"}}),  # noqa: E501
    ("cpus: 1.5\nmem_limit: 1g", of_container("resources", "limits"), {"cpu": "1500m", "memory": "1073741824"}),  # noqa: E501
    ("deploy: {resources: {reservations: {cpus: 0.25, memory: 1kb}}}", of_container("resources"), {"requests": {"cpu": "250m", "memory": "1024"}}),  # noqa: E501
    ("mem_reservation: 2k", of_container("resources", "requests"), {"memory": "2048"}),
    ("deploy: {restart_policy: {condition: any}}", lambda m: "restartPolicy" in pod(m), False),
    ("deploy: {placement: {constraints: [node.labels.zone == a, node.platform.arch==x86_64]}}", of_pod("nodeSelector"), {"zone": "a", "kubernetes.io/arch": "amd64"}),  # noqa: E501
    ("deploy: {placement: {constraints: ['node.labels.disk != hdd']}}", lambda m: pod(m)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"], {"nodeSelectorTerms": [RULES]}),  # noqa: E501
    ("deploy: {placement: {preferences: [{spread: node.labels.zone}]}}", lambda m: pod(m)["topologySpreadConstraints"][0]["topologyKey"], "zone"),  # noqa: E501
    ("networks: {default: {aliases: [www, page]}}", lambda m: {"Service/www", "Service/page"} <= m.keys(), True),  # noqa: E501
    ("network_mode: host", lambda m: (pod(m)["hostNetwork"], pod(m)["dnsPolicy"]), (True, "ClusterFirstWithHostNet")),  # noqa: E501
    ("container_name: front", lambda m: spec(m, "Service/front")["selector"]["sampan.io/service"], "web"),  # noqa: E501
    ("links: ['db:database']", lambda m: (meta(m)["annotations"]["sampan.io/after"], spec(m, "Service/database")["selector"]["sampan.io/service"]), ("db=started", "db")),  # noqa: E501
    ("extra_hosts: [a=10.0.0.1, 'b:10.0.0.1', 'c=[::1]']", of_pod("hostAliases"), [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}, {"ip": "::1", "hostnames": ["c"]}]),  # noqa: E501
    ("dns: 10.0.0.2\ndns_search: [x.org]\ndns_opt: ['ndots:2', rotate]", of_pod("dnsConfig"), {"nameservers": ["10.0.0.2"], "searches": ["x.org"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}),  # noqa: E501
    ("pid: host\nipc: host", lambda m: (pod(m)["hostPID"], pod(m)["hostIPC"]), (True, True)),
    ("security_opt: ['no-new-privileges:true']", of_container("securityContext"), {"allowPrivilegeEscalation": False}),  # noqa: E501
    ("sysctls: {net.core.somaxconn: 1024}", lambda m: pod(m)["securityContext"]["sysctls"], [{"name": "net.core.somaxconn", "value": "1024"}]),  # noqa: E501
    ("platform: linux/arm64/v8", of_pod("nodeSelector"), {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}),  # noqa: E501
    ("pull_policy: always", of_container("imagePullPolicy"), "Always"),
    ("image: 'x:latest'", of_container("imagePullPolicy"), "IfNotPresent"),
    ("stop_grace_period: 1m1500ms", of_pod("terminationGracePeriodSeconds"), 62),
    ("image: x", of_pod("terminationGracePeriodSeconds"), 10),
    ("stop_signal: SIGTERM\ninit: false", container, None),
    ("post_start: [{command: a b}]\npre_stop: [{command: [c, d]}]", of_container("lifecycle"), {"postStart": {"exec": {"command": ["/bin/sh", "-c", "a b"]}}, "preStop": {"exec": {"command": ["c", "d"]}}}),  # noqa: E501
]  # fmt: skip

ELSEWHERE = {"configs", "secrets", "profiles", "extends"}
"""Keys that need more than one service: they have tests of their own."""


@pytest.mark.parametrize(("keys", "check", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_a_key_does_what_the_table_says(
    tmp_path: Path, keys: str, check: Check, wanted: object
) -> None:
    (tmp_path / "vars").write_text("IN_FILE=1\n")
    (tmp_path / "labels").write_text("from=file\n")
    seen = check(service(tmp_path, keys, env={"FROM_SHELL": "yes"}))
    if wanted is not None:
        assert seen == wanted


def test_every_key_that_is_not_refused_has_a_case() -> None:
    texts = "\n".join(case[0] for case in CASES)
    missing = [
        key
        for key, rule in SERVICE.items()
        if rule.treatment is not Treatment.REFUSED
        and key.partition(".")[0] not in ELSEWHERE
        and f"{key.rpartition('.')[2]}:" not in texts
    ]
    assert missing == []


REFUSED = [key for key, rule in SERVICE.items() if rule.treatment is Treatment.REFUSED]
LISTS = ("ports", "volumes", "configs", "secrets", "env_file", "post_start", "pre_stop")


def nested(key: str) -> str:
    """Write `a.*.b` as YAML, one key a line, with a list where the specification has one."""
    lines: list[str] = []
    pad = "    "
    for depth, part in enumerate(key.split(".")):
        dash = "- " if depth == 1 and lines[0].strip(" :") in LISTS else ""
        lines.append(f"{pad}{dash}{part.replace('*', 'db')}:")
        pad += "  " + " " * len(dash)
    return "\n".join(lines)


@pytest.mark.parametrize("key", REFUSED)
def test_a_refused_key_is_named_with_its_line_and_the_reason(tmp_path: Path, key: str) -> None:
    text = f"services:\n  db: {{image: x}}\n  web:\n    image: x\n{nested(key)} x\n"
    parts = key.split(".")
    above = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    first = next(name for name in above if name in REFUSED)
    line, last = 4 + len(first.split(".")), first.rpartition(".")[2]
    told = [problem for problem in refusals(tmp_path, text) if problem.startswith(f"{line}: ")]
    assert any(f"`{last}` is refused: {SERVICE[first].note}" in problem for problem in told)


VALUES = [
    ("restart: 'no'", "work that ends is a Job"),
    ("restart: on-failure", "a service is kept running"),
    ("init: true", "`true` is refused"),
    ("stop_signal: SIGINT", "stopped by SIGTERM"),
    ("user: www-data", "numbers only"),
    ("group_add: [audio]", "numbers only"),
    ("network_mode: none", "use bridge or host"),
    ("pid: service:db", "only `host` is possible"),
    ("extra_hosts: ['a=host-gateway']", "an address is needed"),
    ("extra_hosts: [a]", "write NAME=ADDRESS"),
    ("security_opt: ['seccomp:unconfined']", "only no-new-privileges"),
    ("platform: windows/amd64", "nodes run Linux"),
    ("pull_policy: daily", "must be one of"),
    ("deploy: {mode: global}", "only `replicated`"),
    ("deploy: {restart_policy: {condition: none}}", "is kept running"),
    ("deploy: {update_config: {delay: 10s}}", "pause between replicas"),
    ("deploy: {update_config: {failure_action: continue}}", "goes back (`rollback`)"),
    ("deploy: {update_config: {failure_action: stop}}", "must be one of"),
    ("deploy: {update_config: {order: sideways}}", "must be one of"),
    ("deploy: {endpoint_mode: other}", "must be one of"),
    ("deploy: {replicas: -1}", "cannot be negative"),
    ("deploy: {replicas: many}", "must be a whole number"),
    ("deploy: {replicas: 2}\ncontainer_name: x", "cannot share one name"),
    ("deploy: {placement: {constraints: [node.role==manager]}}", "node.role is refused"),
    ("deploy: {placement: {constraints: [x]}}", "write NODE.FIELD == VALUE"),
    ("ports: ['127.0.0.1:80:80']", "every node's address"),
    ("ports: [{target: 80, mode: host}]", "answered by every node"),
    ("ports: ['80-81:90']", "not as many ports"),
    ("ports: [99999]", "is no port"),
    ("ports: [http]", "is no port"),
    ("ports: [80/icmp]", "is no protocol"),
    ("ports: [{published: 80}]", "`target` is missing"),
    ("volumes: ['data:/x']", "there is no volume 'data' at the top level"),
    ("volumes: [{type: volume, source: data, target: /x}]", "there is no volume 'data'"),
    ("volumes: [{type: volume, source: d, target: /x, volume: {nocopy: false}}]", "begins empty"),
    ("volumes: [{type: npipe, source: a, target: /x}]", "mounts of type npipe are refused"),
    ("volumes: ['./none:/x']", "there is nothing at"),
    ("volumes: ['/a:/x:z']", "the option 'z' is refused"),
    ("volumes: ['/a:/x', '/b:/x']", "two things are mounted at /x"),
    ("volumes: ['/a:x']", "must be an absolute path"),
    ("tmpfs: '/t:noexec'", "'noexec' is refused"),
    ("shm_size: big", "is no size"),
    ("stop_grace_period: soon", "is no duration"),
    ("stop_grace_period: '10'", "is no duration"),
    ("cpus: half", "is no number of CPUs"),
    ("healthcheck: {interval: 1s}", "`test` is missing"),
    ("healthcheck: {test: [curl, x]}", '["CMD", PROGRAM'),
    ("command: a 'b", "never closed"),
    ("entrypoint: []", "needs a `command`"),
    ("env_file: none", "cannot read"),
    ("depends_on: [nobody]", "there is no service 'nobody'"),
    ("depends_on: {db: {condition: service_completed_successfully}}", "work that ends"),
    ("depends_on: {db: {condition: healthy}}", "must be service_started or service_healthy"),
    ("depends_on: {db: {condition: service_started, restart: true}}", "does not restart others"),
    ("configs: [nothing]", "there is no config 'nothing'"),
    ("networks: [other]", "there is no network 'other'"),
    ("labels: {sampan.io/stack: x}", "belongs to the cluster"),
    ("labels: {'a b': x}", "cannot be the name of a label"),
    ("container_name: Web_1", "cannot be a name on the cluster's DNS"),
    ("container_name: db", "already that of"),
    ("privileged: maybe", "must be true or false"),
    ("post_start: [{command: a}, {command: b}]", "one hook"),
]


@pytest.mark.parametrize(("keys", "message"), VALUES, ids=[case[0] for case in VALUES])
def test_a_value_that_cannot_be_kept_is_refused_with_its_reason(
    tmp_path: Path, keys: str, message: str
) -> None:
    text = "\n".join(f"    {line}" for line in keys.splitlines())
    db = "  db: {image: x, healthcheck: {test: 'true'}}"
    problems = refusals(tmp_path, f"services:\n{db}\n  web:\n    image: x\n{text}\n")
    assert any(message in problem for problem in problems), problems


TOP_LEVEL = [
    ("models: {m: {model: x}}", "`models` is refused"),
    ("configs: {c: {external: true}}", "`external` is refused"),
    ("secrets: {c: {driver: x, file: y}}", "`driver` is refused"),
    ("networks: {default: {internal: true}}", "`internal` is refused"),
    ("networks: {default: {ipam: {}}}", "`ipam` is refused"),
    ("networks: {default: {driver: macvlan}}", "must be one of bridge, overlay"),
    ("networks: {default: {external: true}}", "`external` is refused"),
]


NAMED = "services: {web: {image: x, volumes: [%s]}}\nvolumes: {data: %s}\n"
CLAIMED = "PersistentVolumeClaim/data"


def test_a_named_volume_is_a_claim_that_replicas_and_releases_share(tmp_path: Path) -> None:
    made = objects(tmp_path, NAMED % ("'data:/d:ro'", "{}"))
    held = {"persistentVolumeClaim": {"claimName": "data"}}
    assert volume(made) == (held, {"mountPath": "/d", "readOnly": True})
    assert made[CLAIMED]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    assert made[CLAIMED]["metadata"]["labels"] == {"sampan.io/stack": "test"}
    assert "Deployment/web" in made
    writing = objects(tmp_path, NAMED % ("'data:/d'", ""))
    assert spec(writing)["strategy"] == {"type": "Recreate"}
    assert cautions(project(tmp_path, NAMED % ("'data:/d'", "")), list(writing.values())) == []


def test_a_named_volume_says_its_size_class_name_and_labels(tmp_path: Path) -> None:
    text = "{name: kept, driver: fast, driver_opts: {size: 10g}, labels: {tier: gold}}"
    made = objects(tmp_path, NAMED % ("{type: volume, source: data, target: /d}", text))
    claim = made["PersistentVolumeClaim/kept"]
    assert claim["spec"]["resources"]["requests"]["storage"] == str(10 << 30)
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["metadata"]["labels"]["tier"] == "gold"
    assert volume(made)[0] == {"persistentVolumeClaim": {"claimName": "kept"}}


def test_a_named_volume_may_be_mounted_in_part_and_exist_already(tmp_path: Path) -> None:
    mount = "{type: volume, source: data, target: /d, volume: {subpath: a/b, nocopy: true}}"
    made = objects(tmp_path, NAMED % (mount, "{external: true}"))
    assert volume(made)[1] == {"mountPath": "/d", "subPath": "a/b"}
    assert not [key for key in made if key.startswith("PersistentVolumeClaim")]


def test_an_option_of_a_volume_that_is_not_known_is_refused(tmp_path: Path) -> None:
    problems = refusals(tmp_path, NAMED % ("'data:/d'", "{driver_opts: {type: nfs}}"))
    assert any("the option 'type' is refused" in problem for problem in problems), problems


@pytest.mark.parametrize(("text", "message"), TOP_LEVEL)
def test_a_top_level_key_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    problems = refusals(tmp_path, f"services: {{web: {{image: x}}}}\n{text}\n")
    assert [problem for problem in problems if problem.startswith("2: ") and message in problem]


SPECIFICATION = """
annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs
container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares
cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt
dns_search domainname entrypoint env_file environment expose extends external_links extra_hosts gpus
group_add healthcheck hostname image init ipc isolation label_file labels links logging mac_address
mem_limit mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable
oom_score_adj pid pids_limit platform ports post_start pre_stop privileged profiles provider
pull_policy pull_refresh_after read_only restart runtime scale secrets security_opt shm_size
stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user
userns_mode uts volumes volumes_from working_dir
"""


def test_the_table_has_every_key_of_the_specification_and_no_other() -> None:
    assert {key for key in SERVICE if "." not in key} == set(SPECIFICATION.split())


def test_the_table_of_the_top_level_has_every_section() -> None:
    spec_sections = {
        "name", "version", "services", "networks", "volumes", "configs", "secrets", "include",
        "models",
    }  # fmt: skip
    assert {key for key in TOP if "." not in key} == spec_sections


def test_configs_are_named_after_their_content(tmp_path: Path) -> None:
    text = "services: {web: {image: x, configs: [c]}}\nconfigs: {c: {content: '%s'}}\n"
    one, two = (objects(tmp_path, text % word) for word in ("one", "two"))
    names = [next(key for key in made if key.startswith("ConfigMap/c-")) for made in (one, two)]
    assert names[0] != names[1]
    [held] = pod(one)["volumes"]
    assert held["configMap"]["name"] == names[0].removeprefix("ConfigMap/")


def test_configs_and_secrets_come_from_text_file_and_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\x00")
    made = objects(
        tmp_path,
        """
        services:
          web:
            image: x
            configs:
              - source: file
                target: /etc/f
                mode: 0440
                uid: "0"
              - env
            secrets: [{source: key, target: other}, token]
        configs:
          file: {file: ./key}
          env: {environment: WORD}
        secrets:
          key: {file: ./key}
          token: {environment: WORD}
        """,
        env={"WORD": "s3cret"},
    )
    mounts = {m["mountPath"]: m for m in container(made)["volumeMounts"]}
    places = ["/etc/f", "/env", "/run/secrets/other", "/run/secrets/token"]
    assert list(mounts) == places
    assert all(m["readOnly"] and m["subPath"] == "f0" for m in mounts.values())
    modes = [(v.get("configMap") or v["secret"])["items"][0]["mode"] for v in pod(made)["volumes"]]
    assert modes == [0o440, 0o444, 0o444, 0o444]
    by_prefix = {key.rpartition("-")[0]: obj for key, obj in made.items()}
    assert by_prefix["ConfigMap/file"]["binaryData"] == {"f0": "/wA="}
    assert by_prefix["ConfigMap/env"]["data"] == {"f0": "s3cret"}
    assert by_prefix["Secret/key"]["data"] == {"f0": "/wA="}
    assert by_prefix["Secret/token"]["data"] == {"f0": "czNjcmV0"}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("{}", "needs one of file, environment or content"),
        ("{content: a, file: b}", "needs one of file, environment or content"),
        ("{file: ./none}", "cannot read"),
        ("{environment: NOT_SET}", "NOT_SET is not set"),
    ],
)
def test_a_config_without_content_is_refused(tmp_path: Path, declared: str, message: str) -> None:
    text = f"services: {{web: {{image: x, configs: [c]}}}}\nconfigs:\n  c: {declared}\n"
    [problem] = refusals(tmp_path, text)
    assert problem.startswith("3: ")
    assert message in problem


def test_a_directory_is_copied_with_its_tree_and_its_executables(tmp_path: Path) -> None:
    (tmp_path / "conf" / "sub").mkdir(parents=True)
    (tmp_path / "conf" / "a.txt").write_text("A")
    (tmp_path / "conf" / "sub" / "run.sh").write_text("B")
    (tmp_path / "conf" / "sub" / "run.sh").chmod(0o755)
    made = service(tmp_path, "volumes: ['./conf:/etc/conf']")
    held, mount = volume(made)
    assert mount == {"mountPath": "/etc/conf", "readOnly": True}
    assert held["configMap"]["items"] == [
        {"key": "f0", "path": "a.txt", "mode": 0o444},
        {"key": "f1", "path": "sub/run.sh", "mode": 0o555},
    ]
    assert made[f"ConfigMap/{held['configMap']['name']}"]["data"] == {"f0": "A", "f1": "B"}


def test_what_is_too_large_to_copy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * ((1 << 20) + 1))
    problems = refusals(tmp_path, "services: {web: {image: x, volumes: ['./big:/b']}}")
    assert "more than 1 MiB" in problems[0]


@pytest.mark.parametrize(
    ("keys", "strategy"),
    [
        ("volumes: ['/data:/d']", {"type": "Recreate"}),
        ("volumes: ['/data:/d']\nscale: 2", (0, 1)),
        ("volumes: ['/data:/d:ro']", ("25%", 0)),
        ("volumes: ['/data:/d']\ndeploy: {update_config: {order: start-first}}", (1, 0)),
    ],
)
def test_what_writes_to_its_node_is_not_there_twice_unless_the_file_says_so(
    tmp_path: Path, keys: str, strategy: object
) -> None:
    made = service(tmp_path, keys)
    seen = spec(made)["strategy"]
    assert (rolling(made) if "rollingUpdate" in seen else seen) == strategy


def test_data_on_any_node_is_a_caution_and_on_one_it_is_none(tmp_path: Path) -> None:
    text = "services:\n  db:\n    image: x\n    volumes: ['/data:/d']\n"
    pinned = "    deploy: {placement: {constraints: [node.hostname == n1]}}\n"
    for more, lines in (("", [4]), (pinned, [])):
        loaded = project(tmp_path, text + more)
        assert [c.at.line for c in cautions(loaded, convert(loaded))] == lines


def test_a_port_that_two_services_publish_is_refused(tmp_path: Path) -> None:
    text = "services:\n  a: {image: x, ports: ['80:1']}\n  b: {image: x, ports: ['80:2']}\n"
    assert refusals(tmp_path, text) == ["3: services.b.ports: a publishes 80/tcp already"]
    apart = text.replace("80:2", "80:2/udp")
    assert "Service/b-published" in objects(tmp_path, apart)


def test_services_that_share_no_network_are_refused(tmp_path: Path) -> None:
    text = """
    services:
      web: {image: x, networks: [front]}
      app: {image: x, networks: [front, back]}
      db: {image: x, networks: [back]}
    networks: {front: {}, back: {driver: bridge}}
    """
    [problem] = refusals(tmp_path, text)
    assert "web and db share no network" in problem


def test_services_that_wait_for_each_other_are_refused(tmp_path: Path) -> None:
    text = "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}"
    assert "a, b wait for each other" in refusals(tmp_path, text)[0]


def test_waiting_for_the_health_of_what_has_no_check_is_refused(tmp_path: Path) -> None:
    text = "services: {a: {image: x, depends_on: {b: {condition: service_healthy}}}, b: {image: x}}"
    assert "b has no healthcheck here" in refusals(tmp_path, text)[0]


def test_a_name_that_dns_cannot_say_is_refused(tmp_path: Path) -> None:
    assert "cluster's DNS" in refusals(tmp_path, "services: {my_db: {image: x}}")[0]


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    fits = objects(tmp_path, f"services: {{{'a' * 53}: {{image: x, ports: ['80:80']}}}}")
    assert f"Service/{'a' * 53}-published" in fits
    problems = refusals(tmp_path, f"services: {{{'a' * 54}: {{image: x}}}}")
    assert "53 characters at most" in problems[0]


def test_every_object_carries_the_stack_and_what_it_serves(tmp_path: Path) -> None:
    made = service(tmp_path, "ports: ['80:80']\nconfigs: []", name="shop")
    assert made["Namespace/shop"]["metadata"]["labels"] == {"sampan.io/stack": "shop"}
    for key, obj in made.items():
        assert obj["metadata"]["labels"]["sampan.io/stack"] == "shop"
        if key != "Namespace/shop":
            assert obj["metadata"]["namespace"] == "shop"
    selector = {"sampan.io/stack": "shop", "sampan.io/service": "web"}
    assert spec(made)["selector"] == {"matchLabels": selector}
    assert spec(made, "Service/web")["selector"] == selector
    assert selector.items() <= meta(made)["labels"].items()
