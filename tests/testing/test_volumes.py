"""Claims through the whole cluster in one process: ordered, placed, made, used, and gone again."""

import asyncio
from pathlib import Path
from typing import Any

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.testing.cluster import Cluster, cluster, is_ready

CLAIM: Object = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "local-path",
    },
}


def a_pod(name: str = "db", **spec: Any) -> Object:
    container = {
        "name": "main",
        "image": "app",
        "imagePullPolicy": "IfNotPresent",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [volume],
            **spec,
        },
    }


async def running_on(running: Cluster, name: str = "db") -> str:
    async def ready() -> str:
        found = await running.find(kinds.PODS, name)
        return str(found["spec"]["nodeName"]) if found and is_ready(found) else ""

    return await running.until(ready)


async def test_a_claim_is_made_where_its_first_pod_runs_and_keeps_later_ones_there(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as three:
        await three.create(CLAIM)
        await asyncio.sleep(5)
        assert not (await three.client.list(kinds.PERSISTENT_VOLUMES)).items
        await three.create(a_pod())
        node = await running_on(three)
        [volume] = (await three.client.list(kinds.PERSISTENT_VOLUMES)).items
        place = Path(volume["spec"]["local"]["path"])
        assert place.parent == tmp_path / node / "kept" / "claims"
        (place / "written").write_text("by the first")
        await three.client.delete(kinds.PODS, "db", "default")

        async def gone() -> bool:
            return await three.find(kinds.PODS, "db") is None

        await three.until(gone)
        await three.create(a_pod("db2"))
        assert await running_on(three, "db2") == node
        assert (place / "written").read_text() == "by the first"

        await three.client.delete(kinds.PERSISTENT_VOLUME_CLAIMS, "data", "default")
        await asyncio.sleep(5)
        held = await three.find(kinds.PERSISTENT_VOLUME_CLAIMS, "data")
        assert held
        assert held["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
        assert place.exists()
        await three.client.delete(kinds.PODS, "db2", "default")

        async def nothing_left() -> bool:
            return not (await three.client.list(kinds.PERSISTENT_VOLUMES)).items

        await three.until(nothing_left)
        assert not place.exists()
        assert await three.find(kinds.PERSISTENT_VOLUME_CLAIMS, "data") is None
