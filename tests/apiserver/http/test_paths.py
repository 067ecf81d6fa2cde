"""What URL paths mean, and which forms of an answer are meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.errors import BadRequest, NotAcceptable, NotFound
from sampan.apiserver.discovery import version_priority
from sampan.apiserver.http import negotiate, paths
from sampan.apiserver.http.answers import warning


@pytest.mark.parametrize(
    ("path", "method", "watching", "meaning"),
    [
        ("/api/v1/pods", "GET", False, ("list", "", "", "")),
        ("/api/v1/pods", "GET", True, ("watch", "", "", "")),
        ("/api/v1/namespaces/a/pods", "POST", False, ("create", "a", "", "")),
        ("/api/v1/namespaces/a/pods", "DELETE", False, ("deletecollection", "a", "", "")),
        ("/api/v1/namespaces/a/pods/x", "GET", False, ("get", "a", "x", "")),
        ("/api/v1/namespaces/a/pods/x", "GET", True, ("watch", "a", "x", "")),
        ("/api/v1/namespaces/a/pods/x/log", "GET", True, ("get", "a", "x", "log")),
        ("/api/v1/namespaces/a", "PUT", False, ("update", "a", "a", "")),
        ("/api/v1/namespaces/a/status", "PATCH", False, ("patch", "a", "a", "status")),
        ("/api/v1/namespaces/a/finalize", "PUT", False, ("update", "a", "a", "finalize")),
        ("/api/v1/namespaces", "GET", False, ("list", "", "", "")),
        ("/api/v1/nodes/n1/status", "PATCH", False, ("patch", "", "n1", "status")),
        (
            "/apis/apps/v1/namespaces/a/deployments/x/scale",
            "GET",
            False,
            ("get", "a", "x", "scale"),
        ),
        ("/api/v1/namespaces/status/pods", "GET", False, ("list", "status", "", "")),
    ],
)
def test_a_path_is_a_verb_on_a_place(
    path: str, method: str, meaning: tuple[str, str, str, str], *, watching: bool
) -> None:
    target = paths.parse(paths.segments(path))
    assert target
    verb = paths.verb(method, target, watching=watching)
    assert (verb, target.namespace, target.name, target.subresource) == meaning


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/boats", "/api/v1/namespaces/a/nodes", "/api/v1/pods/x", "/apis/apps/v2/boats",
        "/api/v1/namespaces/a/pods/x/boat", "/api/v1/namespaces/a/pods/x/log/y",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        paths.parse(paths.segments(path))


@pytest.mark.parametrize("path", ["/api/v1/%2e%2e", "/a%2Fb", "/a%25b", "/a%00", "/%FF", "/a%0Ab"])
def test_escapes_hide_nothing(path: str) -> None:
    with pytest.raises(BadRequest):
        paths.segments(path)


def test_other_paths_name_no_resource() -> None:
    for path in ("/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version"):
        assert paths.parse(paths.segments(path)) is None


@pytest.mark.parametrize(
    ("header", "form", "media"),
    [
        ("", "", "application/json"),
        ("*/*", "", "application/json"),
        ("application/vnd.kubernetes.protobuf,application/json", "", "application/json"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table", ""),
        ("application/json;as=Unheard;v=v1, application/json", "", "application/json"),
        ("application/yaml", "", "application/yaml"),
        ("application/yaml;q=0.1, application/json", "", "application/json"),
        ("application/yaml;q=x, */*;q=0.1", "", "application/json"),
    ],
)
def test_the_best_form_that_is_served_is_chosen(header: str, form: str, media: str) -> None:
    found = negotiate.accepted(header)
    assert (found.form, found.media) == (form, media or "application/json")


def test_nothing_that_is_served_is_not_acceptable() -> None:
    for header in ("text/html", "application/json;as=Table;v=v9", "application/yaml;as=Table"):
        with pytest.raises(NotAcceptable):
            negotiate.accepted(header)


def test_yaml_reads_as_kubernetes_reads_it() -> None:
    text = b"day: 2024-01-01\n2: two\nyes: true\nlist: [a, {b: c}]\nnothing:\n"
    assert negotiate.from_yaml(text) == {
        "day": "2024-01-01",
        "2": "two",
        "true": True,
        "list": ["a", {"b": "c"}],
        "nothing": None,
    }


def test_nesting_is_bounded_where_it_can_be_stored_again() -> None:
    deep = negotiate.DEEPEST
    assert negotiate.from_json(b"[" * (deep - 1) + b"]" * (deep - 1))
    for read in (negotiate.from_json, negotiate.from_yaml):
        with pytest.raises(BadRequest, match="nested deeper"):
            read(b"[" * (deep + 2) + b"]" * (deep + 2))


def test_a_string_of_brackets_is_no_nesting() -> None:
    assert negotiate.from_json(b'"' + b"[" * 1000 + b'"') == "[" * 1000


def test_a_warning_is_one_quoted_line() -> None:
    assert warning('a "b"\n\\c') == '299 - "a \\"b\\" \\\\c"'
    assert "\r" not in warning("x\r\nSet-Cookie: y")


def test_versions_are_preferred_by_their_maturity() -> None:
    versions = ["v1alpha1", "v2beta1", "v1", "v10", "v2", "v1beta1", "odd"]
    assert sorted(versions, key=version_priority) == [
        "v10", "v2", "v1", "v2beta1", "v1beta1", "v1alpha1", "odd",
    ]  # fmt: skip


@given(st.text(st.sampled_from("ab./%2eE-:"), max_size=12))
def test_plain_paths_are_split_as_escaped_ones_are(text: str) -> None:
    """What needs no decoding takes a short cut; an escape in front sends it the long way."""
    try:
        plain = paths.segments(f"/x/{text}")
    except BadRequest:
        with pytest.raises(BadRequest):
            paths.segments(f"/%78/{text}")
    else:
        assert paths.segments(f"/%78/{text}") == plain
