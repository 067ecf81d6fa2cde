"""A small operator, run by the tests under kopf.

A ConfigMap that asks for it gets a Secret; a Boat, which is a custom resource, gets a status.
"""

from typing import Any

import kopf
import kubernetes

WANTED = {"boats.example/wanted": kopf.PRESENT}


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = True
    settings.persistence.finalizer = "boats.example/finalizer"


@kopf.on.create("configmaps", annotations=WANTED)
def launched(body: kopf.Body, name: str, namespace: str | None, **_: Any) -> dict[str, str]:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{name}-key"},
        "stringData": {"motto": body["data"]["motto"]},
    }
    kopf.adopt(secret, owner=body)
    kubernetes.client.CoreV1Api().create_namespaced_secret(namespace, secret)
    kopf.info(body, reason="Launched", message="its Secret is there")
    return {"made": f"{name}-key"}


@kopf.on.field("configmaps", field="data.motto", annotations=WANTED)
def changed(old: Any, new: Any, name: str, namespace: str | None, **_: Any) -> None:
    if old is not None and new is not None:
        patch = {"stringData": {"motto": new}}
        kubernetes.client.CoreV1Api().patch_namespaced_secret(f"{name}-key", namespace, patch)


@kopf.on.delete("configmaps", annotations=WANTED)
def sunk(name: str, namespace: str | None, **_: Any) -> None:
    body = {"metadata": {"name": f"{name}-farewell"}}
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, body)


@kopf.on.create("boats.example", "v1", "boats")
def afloat(spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> None:
    patch.status["afloat"] = spec["oars"] > 0
