"""kr8s: objects that wait, scale, label and patch themselves, with and without async."""

import asyncio
from typing import Any

import kr8s
from boats import NAMESPACE, deployment
from kr8s.asyncio.objects import Deployment
from kr8s.objects import ConfigMap


async def asynchronous() -> None:
    api = await kr8s.asyncio.api(namespace=NAMESPACE)
    web = await Deployment(deployment("web"), namespace=NAMESPACE, api=api)
    await web.create()
    await web.wait("condition=Available", timeout=30)
    await web.scale(1)
    await web.refresh()
    assert web.replicas == 1
    assert [pod async for pod in api.get("pods", namespace=NAMESPACE)]
    await web.delete()
    await web.wait("delete", timeout=30)
    assert not await web.exists()


def synchronous() -> None:
    api = kr8s.api(namespace=NAMESPACE)
    made = ConfigMap({"metadata": {"name": "c"}, "data": {"a": "1"}}, namespace=NAMESPACE, api=api)
    made.create()
    made.label(tier="web")
    made.annotate(note="here")
    made.patch({"data": {"a": "2"}})
    found: Any = next(iter(api.get("configmaps", namespace=NAMESPACE, label_selector="tier=web")))
    assert (found.data.a, found.annotations["note"]) == ("2", "here")


if __name__ == "__main__":
    asyncio.run(asynchronous())
    synchronous()
