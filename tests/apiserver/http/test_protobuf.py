"""Kubernetes' protobuf: every type of field becomes the JSON that Go would have written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.errors import BadRequest
from sampan.apiserver.http.protobuf import MAGIC, decode


def varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def enveloped(version: str, kind: str, raw: bytes) -> bytes:
    meta = field(1, version) + field(2, kind)
    return MAGIC + field(1, meta) + field(2, raw) + field(3, "") + field(4, "")


def test_a_config_map_with_everything() -> None:
    meta = field(1, "c") + field(2, "") + field(8, b"") + field(11, field(1, "k") + field(2, "v"))
    raw = (
        field(1, meta)
        + field(2, field(1, "a") + field(2, "1"))
        + field(3, field(1, "b") + field(2, b"\xff"))
        + field(4, 0)
    )
    assert decode(enveloped("v1", "ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "labels": {"k": "v"}},
        "data": {"a": "1"},
        "binaryData": {"b": "/w=="},
        "immutable": False,
    }


def test_pointers_keep_their_zero_and_negative_numbers_stay_so() -> None:
    spec = field(1, 0) + field(4, field(1, "")) + field(7, 0) + field(9, -1)
    got = decode(enveloped("apps/v1", "Deployment", field(2, spec)))
    assert got["spec"]["replicas"] == 0
    assert got["spec"]["progressDeadlineSeconds"] == -1


def container(number: int, value: int | str | bytes) -> dict[str, Any]:
    raw = field(2, field(2, field(1, "c") + field(number, value)))
    [found] = decode(enveloped("v1", "Pod", raw))["spec"]["containers"]
    return dict(found)


def test_quantities_ports_and_probes() -> None:
    limits = field(1, field(1, "cpu") + field(2, field(1, "100m")))
    assert container(8, limits)["resources"] == {"limits": {"cpu": "100m"}}
    text = field(2, field(2, field(1, 1) + field(3, "http")))
    assert container(10, field(1, text)) == {
        "name": "c", "livenessProbe": {"httpGet": {"port": "http"}},
    }  # fmt: skip
    number = field(2, field(2, field(2, 8080)))
    probe = container(10, field(1, number))["livenessProbe"]
    assert probe == {"httpGet": {"port": 8080}}


def test_a_newer_clients_field_is_ignored_as_long_as_it_says_nothing() -> None:
    raw = field(1, field(1, "c")) + field(98, 0) + field(99, "")
    assert decode(enveloped("v1", "ConfigMap", raw))["metadata"] == {"name": "c"}


def test_times_and_extra_values() -> None:
    meta = field(1, "x") + field(8, field(1, 1_700_000_000) + field(2, 0))
    got = decode(enveloped("v1", "Namespace", field(1, meta)))
    assert got["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    extra = field(1, "team") + field(2, field(1, "red") + field(1, "blue"))
    spec = field(3, "alice") + field(5, extra)
    got = decode(enveloped("authorization.k8s.io/v1", "SubjectAccessReview", field(2, spec)))
    assert got["spec"] == {"user": "alice", "extra": {"team": ["red", "blue"]}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no magic number"),
        (enveloped("v1", "Boat", b""), "'Boat' of 'v1' is not known"),
        (enveloped("v1", "ConfigMap", field(99, "x")), "core/v1.ConfigMap has no field 99"),
        (enveloped("v1", "ConfigMap", field(99, 1)), "core/v1.ConfigMap has no field 99"),
        (enveloped("v1", "ConfigMap", field(1, 7)), "a number stands where"),
        (enveloped("v1", "ConfigMap", field(4, b"x")), "bytes stand where"),
        (enveloped("v1", "ConfigMap", b"\x0a\x7f"), "ends in the middle"),
        (enveloped("v1", "ConfigMap", b"\xff" * 20), "a number is too long"),
        (enveloped("v1", "ConfigMap", field(1, field(1, b"\xff"))), "not valid protobuf"),
        (enveloped("v1", "ConfigMap", field(1, field(8, field(1, 1 << 62)))), "not valid protobuf"),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        decode(data)


@given(st.binary(max_size=200))
def test_nonsense_is_refused_or_read_and_nothing_else(raw: bytes) -> None:
    for kind in ("Pod", "ConfigMap", "Service"):
        try:
            decode(enveloped("v1", kind, raw))
        except BadRequest:
            continue
