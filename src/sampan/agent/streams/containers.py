"""Which container of which Pod a request means; asked of CRI, which knows before the API does."""

import grpc
from cri_api.v1 import api_pb2
from msgspec import Struct

from sampan.agent.streams.containerd import Containerd
from sampan.api.errors import BadRequest, InternalError

NAMESPACE = "io.kubernetes.pod.namespace"
POD = "io.kubernetes.pod.name"
CONTAINER = "io.kubernetes.container.name"


class Found(Struct, frozen=True):
    id: str
    sandbox: str


async def running_container(
    containerd: Containerd, namespace: str, pod: str, container: str
) -> Found:
    """Find the running container; raise InternalError, as a kubelet does, if there is none."""
    labels = {NAMESPACE: namespace, POD: pod, CONTAINER: container}
    wanted = api_pb2.ContainerFilter(
        label_selector=labels,
        state=api_pb2.ContainerStateValue(state=api_pb2.CONTAINER_RUNNING),
    )
    answer = await containerd.cri.ListContainers(api_pb2.ListContainersRequest(filter=wanted))
    if not answer.containers:
        raise InternalError(f'container not found ("{container}"): it does not run in pod {pod}')
    newest = max(answer.containers, key=lambda found: found.created_at)
    return Found(newest.id, newest.pod_sandbox_id)


async def ready_sandbox(containerd: Containerd, namespace: str, pod: str) -> str:
    """Find the id of the Pod's running sandbox, or raise BadRequest."""
    wanted = api_pb2.PodSandboxFilter(
        label_selector={NAMESPACE: namespace, POD: pod},
        state=api_pb2.PodSandboxStateValue(state=api_pb2.SANDBOX_READY),
    )
    answer = await containerd.cri.ListPodSandbox(api_pb2.ListPodSandboxRequest(filter=wanted))
    if not answer.items:
        raise BadRequest(f"pod {namespace}/{pod} is not running: wait until it is, and try again")
    return str(max(answer.items, key=lambda found: found.created_at).id)


def reason(error: grpc.RpcError) -> str:
    """What the runtime says about a failed call."""
    return str(error.details() or error.code().name)
