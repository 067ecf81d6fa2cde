"""The one document that kubectl takes in protobuf only."""

import json

from sampan.apiserver import openapi_proto
from tests.apiserver.http.support import Live


def test_a_definition_is_written_with_gnostics_field_numbers() -> None:
    document = {
        "swagger": "2.0",
        "info": {"title": "K", "version": "1"},
        "definitions": {"A": {"type": "object", "description": "dropped", "required": ["b"]}},
    }
    assert openapi_proto.encode(document) == (
        b"\x0a\x032.0"  # swagger = 1
        b"\x12\x06\x0a\x01K\x12\x011"  # info = 2
        b"\x4a\x16\x0a\x14"  # definitions = 9, its first schema
        b"\x0a\x01A\x12\x0f"  # name = 1, value = 2
        b"\xb2\x01\x08\x0a\x06object"  # type = 22
        b"\x9a\x01\x01b"  # required = 19
    )


async def test_kubectl_validates_a_list_by_it(live: Live) -> None:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "dat": {"a": "b"}}
    manifest = {"apiVersion": "v1", "kind": "List", "items": [item]}
    wrong = await live.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    assert 'unknown field "dat" in io.k8s.api.core.v1.ConfigMap' in wrong.err
    item["data"] = item.pop("dat")
    assert (await live.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))).code == 0
