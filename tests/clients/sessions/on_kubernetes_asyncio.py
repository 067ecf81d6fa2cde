"""The asynchronous twin of the official client: create, patch, and a watch from a revision."""

import asyncio

import kubernetes_asyncio
from boats import NAMESPACE


async def main() -> None:
    await kubernetes_asyncio.config.load_kube_config()
    async with kubernetes_asyncio.client.ApiClient() as client:
        core = kubernetes_asyncio.client.CoreV1Api(client)
        body = {"metadata": {"name": "c"}, "data": {"a": "1"}}
        await core.create_namespaced_config_map(NAMESPACE, body)
        await core.patch_namespaced_config_map("c", NAMESPACE, {"data": {"a": "2"}})
        since = (await core.list_namespaced_config_map(NAMESPACE)).metadata.resource_version
        await core.delete_namespaced_config_map("c", NAMESPACE)
        seen = []
        async with kubernetes_asyncio.watch.Watch() as watch:
            async for event in watch.stream(
                core.list_namespaced_config_map,
                NAMESPACE,
                resource_version=since,
                timeout_seconds=30,
            ):
                seen.append((event["type"], event["object"].data))
                break
        assert seen == [("DELETED", {"a": "2"})], seen


if __name__ == "__main__":
    asyncio.run(main())
