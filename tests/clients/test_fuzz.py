"""Requests made from our own OpenAPI, most of them wrong: never a 500, and always a Status."""

import base64
from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests
import schemathesis
import yaml  # type: ignore[import-untyped]
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from tests.clients.conftest import Live

pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module"
)  # schemathesis does

OPERATIONS: Final = (
    ("/api/v1/namespaces/{namespace}/configmaps", "POST"),
    ("/api/v1/namespaces/{namespace}/services", "POST"),
    ("/api/v1/namespaces/{namespace}/pods", "GET"),
    ("/api/v1/namespaces/{namespace}/pods/{name}", "DELETE"),
    ("/apis/apps/v1/namespaces/{namespace}/deployments/{name}", "PATCH"),
    ("/apis/autoscaling/v1/namespaces/{namespace}/horizontalpodautoscalers", "POST"),
)


@pytest.fixture(scope="module")
def session(live: Live) -> Iterator[requests.Session]:
    config = yaml.safe_load(live.kubeconfig.read_text())
    user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
    pair = live.base / "pair.pem"
    parts = ("client-certificate-data", "client-key-data")
    pair.write_bytes(b"".join(base64.b64decode(user[part]) for part in parts))
    trust = live.base / "trust.pem"
    trust.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    with requests.Session() as opened:
        opened.trust_env = False  # else REQUESTS_CA_BUNDLE would win
        opened.cert, opened.verify = str(pair), str(trust)
        yield opened


@pytest.fixture(scope="module")
def documents(live: Live, session: requests.Session) -> dict[str, Any]:
    return {
        path: session.get(f"{live.url}/openapi/v3/{path}").json()
        for path in ("api/v1", "apis/apps/v1", "apis/autoscaling/v1")
    }


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_made_from_the_openapi_breaks_the_server(
    live: Live, session: requests.Session, documents: dict[str, Any], path: str, method: str
) -> None:
    document = next(d for prefix, d in documents.items() if path.startswith(f"/{prefix}/"))
    operation = schemathesis.openapi.from_dict(document)[path][method]

    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.one_of(
            operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
            operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
        )
    )
    def ask(case: "schemathesis.Case[Any]") -> None:
        wire = case.as_transport_kwargs(base_url=live.url)
        wire["params"] = {**(wire.get("params") or {}), "watch": "false", "dryRun": "All"}
        answer = session.request(**{**wire, "timeout": 30, "cookies": None})
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json()["kind"] == "Status"

    ask()
