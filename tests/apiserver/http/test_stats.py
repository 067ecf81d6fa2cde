"""`kubectl top` and a kubelet's pages, with a fake agent's figures."""

import json

import aiohttp

from sampan.api import kinds
from sampan.api.objects import Object
from tests.apiserver.http.support import SUCCESS, Live, Verb

TIME = "2026-01-01T00:01:00Z"


def figures(uid: str) -> Object:
    cpu = {"time": TIME, "usageNanoCores": 250_000_000, "usageCoreNanoSeconds": 1}
    memory = {"time": TIME, "workingSetBytes": 64 << 20}
    used = {"startTime": "2026-01-01T00:00:00Z", "cpu": cpu, "memory": memory}
    ref = {"name": "web", "namespace": "default", "uid": uid}
    containers = [{"name": "main", **used}]
    return {
        "node": {"nodeName": "n1", **used},
        "pods": [{"podRef": ref, "containers": containers, **used}],
    }


def telling(summary: Object) -> Verb:
    async def stats(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        await stream.send_str(SUCCESS)
        resource = params["form"] == "resource"
        await stream.send_str("scrape_error 0\n" if resource else json.dumps(summary))

    return stats


async def uid_of(live: Live) -> str:
    answer = await live.request("GET", "/api/v1/namespaces/default/pods/web")
    return str(answer.json["metadata"]["uid"])


async def test_kubectl_top_shows_pods_containers_and_nodes(live: Live) -> None:
    await live.pod_on("n1")
    node = {"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}}
    await live.request("POST", kinds.NODES.path(), node)
    async with live.agent("n1", stats=telling(figures(await uid_of(live)))):
        pods = await live.kubectl("top", "pods", "--containers")
        assert pods.out.splitlines()[1].split() == ["web", "main", "250m", "64Mi"]
        nodes = await live.kubectl("top", "nodes")
        assert nodes.out.splitlines()[1].split() == ["n1", "250m", "12%", "64Mi", "6%"]
        one = await live.request("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/web")
        assert one.json["containers"] == [
            {"name": "main", "usage": {"cpu": "250000000n", "memory": "65536Ki"}}
        ]
        assert one.json["window"] == "15s"
        none = await live.request("GET", "/apis/metrics.k8s.io/v1beta1/pods?labelSelector=a%3Db")
        assert none.json["items"] == []


async def test_a_node_that_does_not_answer_is_left_out(live: Live) -> None:
    await live.pod_on("n1")
    await live.request("POST", kinds.NODES.path(), {"metadata": {"name": "n1"}})
    answer = await live.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes")
    assert (answer.status, answer.json["items"]) == (200, [])
    answer = await live.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes/n1")
    assert answer.status == 404


async def test_monitoring_reads_a_node_as_it_would_a_kubelet(live: Live) -> None:
    await live.request("POST", kinds.NODES.path(), {"metadata": {"name": "n1"}})
    async with live.agent("n1", stats=telling(figures("u"))):
        summary = await live.request("GET", "/api/v1/nodes/n1/proxy/stats/summary")
        assert summary.json["node"]["nodeName"] == "n1"
        metrics = await live.request("GET", "/api/v1/nodes/n1/proxy/metrics/resource")
        assert metrics.body == b"scrape_error 0\n"
        other = await live.request("GET", "/api/v1/nodes/n1/proxy/pods")
        assert other.status == 404


async def test_the_metrics_are_discovered_and_cannot_be_written(live: Live) -> None:
    found = await live.kubectl("api-resources", "--api-group=metrics.k8s.io", "--no-headers")
    assert sorted(line.split()[-1] for line in found.out.splitlines()) == [
        "NodeMetrics",
        "PodMetrics",
    ]
    answer = await live.request("POST", "/apis/metrics.k8s.io/v1beta1/nodes", {})
    assert answer.status == 405
