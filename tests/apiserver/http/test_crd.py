"""Custom resources with the real kubectl: defined, used, explained, scaled and deleted."""

import asyncio
import json
from copy import deepcopy

from sampan.api.objects import Object
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
