"""A container's image is found on the node or pulled, by its policy, with Kubernetes' events."""

import asyncio
from typing import Final

from sampan.agent import plan
from sampan.agent.events import Severity
from sampan.agent.memory import Waiting, retry_pause
from sampan.agent.pulls import credentials, pull_references
from sampan.agent.record import Record
from sampan.agent.runtime import Auth, Image, RuntimeFailure
from sampan.agent.spec import ContainerSpec
from sampan.agent.tools import Tools
from sampan.api.errors import ApiError

IMAGE_PROBLEMS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"})
_REFUSALS: Final = ("unauthorized", "denied", "forbidden", " 401", " 403")


class Pulling:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def ensure(self, record: Record, step: plan.PullImage) -> None:
        """Have the image at hand for that run, at once if it is here and may be used."""
        container = record.pod.container(step.container)
        if container is None:
            return
        policy = container.pull_policy
        try:
            found = None if policy == "Always" else await self._tools.images.find(container.image)
        except RuntimeFailure as error:
            self._failed(record, container, "ImageInspectError", str(error))
            return
        if found:
            text = f'Container image "{container.image}" already present on machine'
            self._at_hand(record, container, step.attempt, found, text)
        elif policy == "Never":
            text = f'Container image "{container.image}" is not present with pull policy of Never'
            self._failed(record, container, "ErrImageNeverPull", text)
        else:
            record.remember(container.name, pulling=True)
            self._tell(record, container, "Pulling", f'Pulling image "{container.image}"')
            self._tools.spawn(self._pull(record, container, step.attempt))

    async def _pull(self, record: Record, container: ContainerSpec, attempt: int) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            auths = await self._credentials(record, container)
            image = await self._tools.images.pull(container.image, auths)
        except (RuntimeFailure, ApiError) as error:
            await self._not_pulled(record, container, attempt, str(error))
        else:
            taken = loop.time() - begun
            text = f'Successfully pulled image "{container.image}" in {taken:.3g}s'
            self._at_hand(record, container, attempt, image, text)
        record.remember(container.name, pulling=False)
        self._tools.poke(record.uid)

    async def _credentials(self, record: Record, container: ContainerSpec) -> list[Auth]:
        names = [ref.name for ref in record.pod.spec.image_pull_secrets if ref.name]
        if not names:
            return []
        wanted = pull_references(names)
        found = await self._tools.sources.fetch(record.pod.metadata.namespace, wanted)
        return credentials(container.image, [secret for secret in found.values() if secret])

    async def _not_pulled(
        self, record: Record, container: ContainerSpec, attempt: int, why: str
    ) -> None:
        """Without its registry an image that was loaded into the node is still good."""
        refused = any(word in why.lower() for word in _REFUSALS)
        try:
            here = None if refused else await self._tools.images.find(container.image)
        except RuntimeFailure:
            here = None
        text = f'Failed to pull image "{container.image}": {why}'
        if here:
            self._tell(record, container, "FailedToPull", text, warning=True)
            text = f'Container image "{container.image}" already present on machine'
            self._at_hand(record, container, attempt, here, text)
            return
        self._failed(record, container, "ErrImagePull", text)
        text = f'Back-off pulling image "{container.image}"'
        self._tell(record, container, "BackOff", text)

    def _at_hand(
        self, record: Record, container: ContainerSpec, attempt: int, image: Image, text: str
    ) -> None:
        record.remember(
            container.name,
            image=image.id,
            image_for=attempt,
            failures=0,
            retry_at=None,
            waiting=None,
        )
        self._tell(record, container, "Pulled", text)

    def _failed(self, record: Record, container: ContainerSpec, reason: str, message: str) -> None:
        failures = record.of(container.name).failures + 1
        self._tell(record, container, "Failed", message, warning=True)
        self._tell(record, container, "Failed", f"Error: {reason}", warning=True)
        if reason == "ErrImagePull" and failures > 1:
            reason = "ImagePullBackOff"
            message = f'Back-off pulling image "{container.image}": ErrImagePull: {message}'
        record.remember(
            container.name,
            failures=failures,
            retry_at=self._tools.now() + retry_pause(failures),
            waiting=Waiting(reason, message),
        )

    def _tell(
        self,
        record: Record,
        container: ContainerSpec,
        reason: str,
        text: str,
        *,
        warning: bool = False,
    ) -> None:
        severity: Severity = "Warning" if warning else "Normal"
        self._tools.events.record(record.pod, severity, reason, text, container.name)
