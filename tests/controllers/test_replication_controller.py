from sampan.api import kinds
from sampan.api.objects import Object
from sampan.controllers import replication_controller
from tests.controllers.cluster import pod, running, until
from tests.controllers.cluster import replication_controller as an_rc
from tests.controllers.memory_api import MemoryApi

ONLY = (replication_controller.CONTROLLER,)


async def test_it_keeps_its_number_adopts_and_reports() -> None:
    api = MemoryApi()
    async with running(api, ONLY):
        await api.create(kinds.PODS, pod("stray", labels={"app": "old"}))
        await api.create(kinds.REPLICATION_CONTROLLERS, an_rc("old", 2))
        await until(lambda: state(api).get("readyReplicas") == 2)
        owners = {p["metadata"]["ownerReferences"][0]["kind"] for p in api.of(kinds.PODS)}
        assert owners == {"ReplicationController"}
        assert "stray" in {p["metadata"]["name"] for p in api.of(kinds.PODS)}
        patch = {"spec": {"replicas": 0}}
        await api.patch(kinds.REPLICATION_CONTROLLERS, "old", patch, "default")
        await until(lambda: not api.of(kinds.PODS) and state(api)["replicas"] == 0)


async def test_a_pod_that_is_gone_is_made_again() -> None:
    api = MemoryApi()
    async with running(api, ONLY):
        await api.create(kinds.REPLICATION_CONTROLLERS, an_rc("old", 1))
        await until(lambda: state(api).get("availableReplicas") == 1)
        first = api.of(kinds.PODS)[0]
        api.gone(kinds.PODS, first)
        await until(lambda: [p for p in api.of(kinds.PODS) if p is not first] != [])


def state(api: MemoryApi) -> Object:
    found: Object = api.of(kinds.REPLICATION_CONTROLLERS)[0].get("status") or {}
    return found
