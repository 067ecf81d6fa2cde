"""lightkube: models, waiting for a condition, server-side apply, patches, and errors by reason."""

import lightkube
from boats import NAMESPACE, refused
from lightkube.core.exceptions import ApiError
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import PatchType


def main() -> None:
    client = lightkube.Client(namespace=NAMESPACE, field_manager="session")
    spec = PodSpec(containers=[Container(name="main", image="app")])
    client.create(Pod(metadata=ObjectMeta(name="p"), spec=spec))
    client.wait(Pod, "p", for_conditions=["Ready"])
    wanted = ConfigMap(
        metadata=ObjectMeta(name="c", namespace=NAMESPACE),
        data={"a": "1"},
        apiVersion="v1",
        kind="ConfigMap",
    )
    client.apply(wanted)
    client.patch(ConfigMap, "c", {"data": {"b": "2"}}, patch_type=PatchType.MERGE)
    assert client.get(ConfigMap, "c").data == {"a": "1", "b": "2"}
    assert [pod.metadata.name for pod in client.list(Pod) if pod.metadata] == ["p"]
    client.delete(Pod, "p", grace_period=0)
    with refused(ApiError) as error:
        client.get(ConfigMap, "absent")
    assert error[0].status.reason == "NotFound"


if __name__ == "__main__":
    main()
