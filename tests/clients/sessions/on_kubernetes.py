"""The official client: typed calls, a watch, a scale; its dynamic client with server-side apply."""

import kubernetes
from boats import NAMESPACE, deployment, refused


def main() -> None:
    with kubernetes.config.new_client_from_config() as client:
        typed(client)
        dynamic(client)


def typed(client: kubernetes.client.ApiClient) -> None:
    apps, core = kubernetes.client.AppsV1Api(client), kubernetes.client.CoreV1Api(client)
    apps.create_namespaced_deployment(NAMESPACE, deployment("web"))
    watch = kubernetes.watch.Watch()
    for event in watch.stream(apps.list_namespaced_deployment, NAMESPACE, timeout_seconds=30):
        if event["object"].status.ready_replicas == 2:
            watch.stop()
    pods = core.list_namespaced_pod(NAMESPACE, label_selector="app=web", limit=1)
    assert len(pods.items) == 1
    assert pods.metadata._continue
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 1}})
    assert apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas == 1
    with refused(kubernetes.client.ApiException) as error:
        core.read_namespaced_pod("absent", NAMESPACE)
    assert error[0].status == 404
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")


def dynamic(client: kubernetes.client.ApiClient) -> None:
    kinds = kubernetes.dynamic.DynamicClient(client).resources
    deployments = kinds.get(api_version="apps/v1", kind="Deployment")
    applied = deployments.server_side_apply(
        body=deployment("applied"), namespace=NAMESPACE, field_manager="session"
    )
    assert applied.metadata.managedFields[0].manager == "session"
    assert deployments.get(name="applied", namespace=NAMESPACE).spec.replicas == 2


if __name__ == "__main__":
    main()
