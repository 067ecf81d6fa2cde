"""Custom resources with the real kubectl: defined, used, explained, scaled and deleted."""

import asyncio
import base64
import json
import ssl
from copy import deepcopy
from pathlib import Path

from aiohttp import web

from sampan.api.objects import Object
from sampan.apiserver import pki
from tests.apiserver.crds import SPEC, crd, schema, version
from tests.apiserver.http.support import KUBECTL, Live

SIZED: Object = {
    **SPEC,
    "description": "What shall run, and when.",
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.replicas) || self.replicas < 5 || self.size == 'large'",
            "message": "more than four replicas need size large",
        }
    ],
}
COLUMNS = [
    {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
    {"name": "Image", "type": "string", "jsonPath": ".spec.image", "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
PARTS = {
    "status": {},
    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
}
NAMES = {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]}
DEFINITION = crd(
    names=NAMES,
    versions=[version(schema=schema(SIZED), additionalPrinterColumns=COLUMNS, subresources=PARTS)],
)


def crontab(name: str = "a", **spec: object) -> str:
    return json.dumps({
        "apiVersion": "stable.example.com/v1",
        "kind": "CronTab",
        "metadata": {"name": name},
        "spec": {"cronSpec": "* * * * */5", **spec},
    })  # fmt: skip


async def defined(live: Live, definition: Object = DEFINITION) -> None:
    made = await live.kubectl("apply", "-f", "-", stdin=json.dumps(definition))
    assert made.code == 0, made.err
    name = definition["metadata"]["name"]
    waited = await live.kubectl(
        "wait", "--for=condition=Established", f"crd/{name}", "--timeout=9s"
    )
    assert waited.code == 0, waited.err


async def test_a_kind_is_defined_applied_and_listed_with_its_columns(live: Live) -> None:
    await defined(live)
    made = await live.kubectl("apply", "-f", "-", stdin=crontab(replicas=3))
    assert made.out == "crontab.stable.example.com/a created\n", made.err
    again = await live.kubectl("apply", "-f", "-", stdin=crontab(replicas=3))
    assert "unchanged" in again.out, again.err
    shown = (await live.kubectl("get", "ct")).out.split("\n")
    assert shown[0].split() == ["NAME", "SPEC", "REPLICAS", "AGE"]
    assert shown[1].split()[:7] == ["a", "*", "*", "*", "*", "*/5", "3"]
    wide = (await live.kubectl("get", "crontabs", "-o", "wide")).out
    assert wide.split("\n")[0].split() == ["NAME", "SPEC", "REPLICAS", "IMAGE", "AGE"]
    assert "crontab.stable.example.com/a" in (await live.kubectl("get", "all", "-o", "name")).out
    listed = (await live.kubectl("get", "crd")).out
    assert "crontabs.stable.example.com" in listed
    assert "CREATED AT" in listed


async def test_bad_objects_are_refused_in_kubernetes_words(live: Live) -> None:
    await defined(live)
    wrong = await live.kubectl("create", "-f", "-", stdin=crontab(replicas=11, size="large"))
    assert wrong.err == (
        'The CronTab "a" is invalid: spec.replicas: Invalid value: 11: spec.replicas in body '
        "should be less than or equal to 10\n"
    )
    rule = await live.kubectl("create", "-f", "-", stdin=crontab(replicas=7, size="small"))
    assert rule.err == (
        'The CronTab "a" is invalid: spec: Invalid value: "object": more than four replicas '
        "need size large\n"
    )
    unknown = await live.kubectl("create", "-f", "-", stdin=crontab(oops=1))
    assert 'unknown field "spec.oops"' in unknown.err


async def test_explain_shows_fields_and_their_descriptions(live: Live) -> None:
    await defined(live)
    told = await live.kubectl("explain", "crontab.spec")
    assert told.code == 0, told.err
    assert "What shall run, and when." in told.out
    assert "cronSpec" in told.out
    recursive = await live.kubectl("explain", "ct", "--recursive")
    assert "weight" in recursive.out
    assert "ownerReferences" in recursive.out


async def test_an_object_is_patched_scaled_edited_and_deleted(live: Live) -> None:
    await defined(live)
    assert (await live.kubectl("create", "-f", "-", stdin=crontab(replicas=1))).code == 0
    scaled = await live.kubectl("scale", "ct/a", "--replicas=4")
    assert scaled.code == 0, scaled.err
    patched = await live.kubectl(
        "patch", "ct", "a", "--type=merge", "-p", '{"spec":{"size":"large"}}'
    )
    assert patched.code == 0, patched.err
    strategic = await live.kubectl(
        "patch", "ct", "a", "--type=strategic", "-p", '{"spec":{"size":"small"}}'
    )
    assert strategic.code != 0
    shown = await live.kubectl("get", "ct", "a", "-o", "jsonpath={.spec.size}{.spec.replicas}")
    assert shown.out == "large4"
    status = await live.kubectl(
        "patch", "ct", "a", "--type=merge", "--subresource=status", "-p",
        '{"status":{"replicas":4}}',
    )  # fmt: skip
    assert status.code == 0, status.err
    gone = await live.kubectl("delete", "ct", "a")
    assert gone.code == 0, gone.err


async def test_server_side_apply_knows_a_maps_keys(live: Live) -> None:
    await defined(live)
    first = crontab(jobs=[{"name": "x"}])
    assert (await live.kubectl("apply", "--server-side", "-f", "-", stdin=first)).code == 0
    other = {**json.loads(crontab(jobs=[{"name": "y"}]))}
    other["spec"].pop("cronSpec")
    ran = await live.kubectl(
        "apply", "--server-side", "--field-manager=other", "-f", "-", stdin=json.dumps(other)
    )
    assert ran.code == 0, ran.err
    names = await live.kubectl("get", "ct", "a", "-o", "jsonpath={.spec.jobs[*].name}")
    assert names.out == "x y"


async def test_a_deleted_definition_takes_its_objects_along_and_is_gone(live: Live) -> None:
    await defined(live)
    for name in "ab":
        await live.kubectl("create", "-f", "-", stdin=crontab(name))
    gone = await live.kubectl("delete", "crd", "crontabs.stable.example.com", "--timeout=20s")
    assert gone.code == 0, gone.err
    missing = await live.kubectl("get", "crontabs")
    assert "could not find the requested resource" in missing.err
    answer = await live.request("GET", "/apis/stable.example.com/v1/crontabs")
    assert answer.status == 404
    await defined(live)
    assert (await live.kubectl("get", "ct")).out == ""


async def test_a_bad_definition_is_told_where_it_is_wrong(live: Live) -> None:
    bad = deepcopy(DEFINITION)
    spec = bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["image"] = {"description": "no type"}
    ran = await live.kubectl("create", "-f", "-", stdin=json.dumps(bad))
    assert (
        "spec.validation.openAPIV3Schema.properties[spec].properties[image].type: Required value: "
        "must not be empty for specified object fields"
    ) in ran.err


async def test_a_watch_goes_on_while_the_definition_changes_and_ends_when_it_goes(
    live: Live,
) -> None:
    await defined(live)
    process = await asyncio.create_subprocess_exec(
        KUBECTL, "--kubeconfig", live.kubeconfig, "get", "ct", "-w", "--no-headers", "-o", "name",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    async with asyncio.timeout(30):
        await live.kubectl("create", "-f", "-", stdin=crontab("a"))
        assert await process.stdout.readline() == b"crontab.stable.example.com/a\n"
        changed = deepcopy(DEFINITION)
        changed["spec"]["versions"][0]["additionalPrinterColumns"] = COLUMNS[:1]
        await defined(live, changed)
        await live.kubectl("create", "-f", "-", stdin=crontab("b"))
        assert await process.stdout.readline() == b"crontab.stable.example.com/b\n"
        await live.kubectl("delete", "crd", "crontabs.stable.example.com")
        rest = await process.stdout.read()
        await process.wait()
    assert sorted(rest.split()) == [
        b"crontab.stable.example.com/a",
        b"crontab.stable.example.com/b",
    ]


async def test_discovery_and_openapi_tell_of_a_custom_kind_while_it_is_served(live: Live) -> None:
    before = (await live.request("GET", "/openapi/v3")).json["paths"]
    await defined(live)
    [group] = [
        one for one in (await live.request("GET", "/apis")).json["groups"]
        if one["name"] == "stable.example.com"
    ]  # fmt: skip
    assert group["preferredVersion"]["version"] == "v1"
    listed = (await live.request("GET", "/apis/stable.example.com/v1")).json["resources"]
    assert [one["name"] for one in listed] == ["crontabs", "crontabs/scale", "crontabs/status"]
    assert listed[0]["shortNames"] == ["ct"]
    after = (await live.request("GET", "/openapi/v3")).json["paths"]
    assert after.keys() - before.keys() == {"apis/stable.example.com/v1"}
    assert after["apis/apps/v1"] == before["apis/apps/v1"]
    v3 = (await live.request("GET", "/openapi/v3/apis/stable.example.com/v1")).json
    found = v3["components"]["schemas"]["com.example.stable.v1.CronTab"]
    assert found["properties"]["spec"]["properties"]["replicas"]["maximum"] == 10
    assert "ObjectMeta" in str(found["properties"]["metadata"])
    v2 = (await live.request("GET", "/openapi/v2")).json
    assert "com.example.stable.v1.CronTabList" in v2["definitions"]
    await live.kubectl("delete", "crd", "crontabs.stable.example.com")
    assert (await live.request("GET", "/openapi/v3")).json["paths"] == before


async def test_a_role_lets_its_holder_use_a_custom_kind_and_no_more(live: Live) -> None:
    await defined(live)
    await live.kubectl("create", "-f", "-", stdin=crontab())
    made = await live.kubectl(
        "create", "role", "cron", "--verb=get,list", "--resource=crontabs.stable.example.com"
    )
    assert made.code == 0, made.err
    await live.kubectl("create", "rolebinding", "cron", "--role=cron", "--user=jane")
    jane = live.tls("jane")
    path = "/apis/stable.example.com/v1/namespaces/default/crontabs"
    assert (await live.request("GET", path, tls=jane)).status == 200
    assert (await live.request("DELETE", f"{path}/a", tls=jane)).status == 403


CHART = {
    "Chart.yaml": "apiVersion: v2\nname: cron\nversion: 0.1.0\n",
    "values.yaml": "replicas: 1\n",
    "crds/crontab.yaml": json.dumps(DEFINITION),
    "templates/one.yaml": crontab("one", replicas="REPLICAS").replace(
        '"REPLICAS"', "{{ .Values.replicas }}"
    ),
}


async def test_helm_installs_upgrades_and_removes_a_chart_with_a_definition(live: Live) -> None:
    chart = live.scratch / "chart"
    for name, text in CHART.items():
        file = chart / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    async def helm(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            KUBECTL.with_name("helm"), "--kubeconfig", live.kubeconfig, *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={"HOME": str(live.scratch), "PATH": "/usr/bin"},
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    await helm("install", "nightly", str(chart))
    replicas = "jsonpath={.spec.replicas}"
    assert (await live.kubectl("get", "ct", "one", "-o", replicas)).out == "1"
    await helm("upgrade", "nightly", str(chart), "--set", "replicas=3")
    assert (await live.kubectl("get", "ct", "one", "-o", replicas)).out == "3"
    await helm("rollback", "nightly", "1")
    assert (await live.kubectl("get", "ct", "one", "-o", replicas)).out == "1"
    await helm("uninstall", "nightly")
    assert (await live.kubectl("get", "ct", "-o", "name")).out == ""
    assert (
        (await live.kubectl("get", "crd", "-o", "name"))
        .out.strip()
        .endswith("crontabs.stable.example.com")
    )


async def test_versions_are_converted_by_a_webhook_over_tls(live: Live, tmp_path: Path) -> None:
    keys = pki.load(tmp_path / "hook")

    async def convert(request: web.BaseRequest) -> web.Response:
        review = json.loads(await request.read())
        asked = review["request"]
        made = [
            {**obj, "apiVersion": asked["desiredAPIVersion"],
             "spec": {**obj["spec"], "note": f"was {obj['apiVersion'].rpartition('/')[2]}"}}
            for obj in asked["objects"]
        ]  # fmt: skip
        answer = {"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": made}
        return web.json_response({**review, "response": answer})

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*keys.serving_files)
    runner = web.ServerRunner(web.Server(convert), shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        client = {
            "url": f"https://127.0.0.1:{runner.addresses[0][1]}/",
            "caBundle": base64.b64encode(keys.ca_pem).decode(),
        }
        webhook = {"clientConfig": client, "conversionReviewVersions": ["v1"]}
        both = [version(), version("v2", storage=False)]
        conversion = {"strategy": "Webhook", "webhook": webhook}
        await defined(live, crd(names=NAMES, versions=both, conversion=conversion))
        await live.kubectl("create", "-f", "-", stdin=crontab())
        note = await live.kubectl(
            "get", "crontabs.v2.stable.example.com", "a", "-o", "jsonpath={.spec.note}"
        )
        assert note.out == "was v1", note.err
    finally:
        await runner.cleanup()
