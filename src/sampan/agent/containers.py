"""Containers are made, started, watched to their end and stopped.

What may take long (pulling an image, waiting for an end, hooks) goes on beside the Pod's other
work and has it looked at again when it is over.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from sampan.agent import plan
from sampan.agent.containerconfig import Prepared, container_config
from sampan.agent.endings import last_words, make_message_file
from sampan.agent.env import ConfigError, environment, references
from sampan.agent.handlers import Target
from sampan.agent.hooks import run_hook
from sampan.agent.memory import Waiting, restart_pause
from sampan.agent.record import Record
from sampan.agent.resources import asked, limits
from sampan.agent.rotation import remove_log
from sampan.agent.runtime import Container, ContainerConfig, Missing, Mount, RuntimeFailure, State
from sampan.agent.sandboxes import HOSTS, Sandboxes, make_directory
from sampan.agent.spec import ContainerSpec, Handler
from sampan.agent.status import qos_class
from sampan.agent.tools import Tools, soon
from sampan.api.errors import ApiError

END_SHOWN_WITHIN: Final = 5.0
"""Seconds that a runtime may need to show an end that it has told of."""

log = logging.getLogger(__name__)


class Containers:
    def __init__(self, tools: Tools, sandboxes: Sandboxes) -> None:
        self._tools = tools
        self._sandboxes = sandboxes

    # Starting

    async def create_and_start(self, record: Record, step: plan.CreateAndStart) -> None:
        container = record.pod.container(step.container)
        if container is None:
            return
        try:
            config = await self._configure(record, container, step.attempt)
        except (ConfigError, ApiError, OSError) as error:
            self._not_made(record, container, "CreateContainerConfigError", str(error))
            return
        await self._tools.connected(record.pod, self._tools.pod_ip(record))
        if run := await self._create(record, container, config):
            await self._start(record, container, run)

    async def _configure(
        self, record: Record, container: ContainerSpec, attempt: int
    ) -> ContainerConfig:
        tools = self._tools
        around = tools.around(record)
        found = await tools.sources.fetch(record.pod.metadata.namespace, set(references(container)))
        env = environment(container, around, found, tools.services())
        image = await tools.images.find(container.image)
        if image is None:
            raise ConfigError(f"image {container.image} has gone from this node")
        mounts = tools.volumes.mounts(record.pod, container, env)
        own = self._own_mounts(record, container, attempt, {m.container_path for m in mounts})
        ready = Prepared(
            image=image,
            env=env,
            mounts=(*mounts, *own),
            node_memory=tools.capacity.memory,
            target=_target(record, container),
        )
        return container_config(record.pod, container, attempt, ready)

    def _own_mounts(
        self, record: Record, container: ContainerSpec, attempt: int, taken: set[str]
    ) -> list[Mount]:
        own = [] if HOSTS in taken else [self._sandboxes.hosts_mount(record)]
        if container.termination_message_path not in taken:
            file = self._message_file(record, container.name, attempt)
            make_message_file(file)
            place = container.termination_message_path
            own.append(Mount(container_path=place, host_path=str(file)))
        return own

    def _message_file(self, record: Record, name: str, attempt: int) -> Path:
        return self._tools.volumes.directory(record.uid) / "containers" / name / str(attempt)

    async def _create(
        self, record: Record, container: ContainerSpec, config: ContainerConfig
    ) -> Container | None:
        sandbox = record.seen.sandbox
        if sandbox is None:
            return None
        sandbox_config = self._sandboxes.config(record, sandbox.attempt)
        make_directory(Path(sandbox_config.log_directory) / container.name)
        try:
            made = await self._tools.runtime.create_container(sandbox.id, config, sandbox_config)
        except RuntimeFailure as error:
            record.stale = True
            if isinstance(error, Missing):
                self._tools.images.forget(container.image)
                record.remember(container.name, image_for=-1)
            self._not_made(record, container, "CreateContainerError", str(error))
            return None
        text = f"Created container: {container.name}"
        self._tools.events.record(record.pod, "Normal", "Created", text, container.name)
        run = Container(
            id=made,
            sandbox=sandbox.id,
            uid=record.uid,
            name=container.name,
            attempt=config.attempt,
            state=State.CREATED,
            created_at=self._tools.now(),
            image_asked=container.image,
        )
        # It is known before it starts, so that its end is not missed however soon that comes.
        record.seen = record.seen.with_container(run)
        record.remember(
            container.name,
            probed=made,
            started=False,
            ready=False,
            unhealthy="",
            grace=None,
            next_attempt=config.attempt + 1,
        )
        return run

    async def _start(self, record: Record, container: ContainerSpec, run: Container) -> None:
        name = container.name
        try:
            await self._tools.runtime.start_container(run.id)
        except RuntimeFailure as error:
            text = f"Error: {error}"
            self._tools.events.record(record.pod, "Warning", "Failed", text, name)
            record.remember(name, waiting=Waiting("RunContainerError", str(error)))
            await self.look(record, run.id)
            return
        record.remember(name, waiting=None, failures=0, retry_at=None)
        self._tools.events.record(
            record.pod, "Normal", "Started", f"Started container {name}", name
        )
        await self.look(record, run.id)
        if hook := container.lifecycle.post_start:
            target = Target(run.id, container, self._tools.pod_ip(record))
            self._tools.spawn(self._post_start(record, target, hook))

    async def _post_start(self, record: Record, target: Target, hook: Handler) -> None:
        failure = await run_hook(self._tools.runtime, target, hook, 0)
        name = target.container.name
        if failure and record.of(name).probed == target.id:
            text = f"PostStartHook failed: {failure}"
            self._tools.events.record(record.pod, "Warning", "FailedPostStartHook", text, name)
            record.remember(name, unhealthy="failed postStart hook")
            self._tools.poke(record.uid)

    def _not_made(
        self, record: Record, container: ContainerSpec, reason: str, message: str
    ) -> None:
        failures = record.of(container.name).failures + 1
        self._tools.events.record(
            record.pod, "Warning", "Failed", f"Error: {message}", container.name
        )
        record.remember(
            container.name,
            failures=failures,
            retry_at=self._tools.now() + soon(failures),
            waiting=Waiting(reason, message),
        )

    # Ending

    async def stop(self, record: Record, step: plan.Stop) -> None:
        memory = record.of(step.container)
        again = step.id in memory.stopping
        record.remember(step.container, stopping={**memory.stopping, step.id: step.grace})
        if not again:
            self._tools.events.record(record.pod, "Normal", "Killing", step.why, step.container)
        self._tools.spawn(self._stop(record, step, hook=not again))

    async def _stop(self, record: Record, step: plan.Stop, *, hook: bool) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if hook:
            await self._pre_stop(record, step)
        left = max(round(step.grace - (loop.time() - begun)), 0)
        try:
            await self._tools.runtime.stop_container(step.id, left)
            await self._await_end(record, step.id)
        except RuntimeFailure as error:
            log.warning("%s: stopping %s: %s", record.pod.metadata.key, step.container, error)
            stopping = dict(record.of(step.container).stopping)
            stopping.pop(step.id, None)
            record.remember(step.container, stopping=stopping)
            record.stale = True
            await asyncio.sleep(soon(3).total_seconds())
        self._tools.poke(record.uid)

    async def _pre_stop(self, record: Record, step: plan.Stop) -> None:
        container = record.pod.container(step.container)
        if container is None or container.lifecycle.pre_stop is None:
            return
        target = Target(step.id, container, self._tools.pod_ip(record))
        hook = container.lifecycle.pre_stop
        failure = await run_hook(self._tools.runtime, target, hook, float(step.grace))
        if failure:
            text = f"PreStopHook failed: {failure}"
            self._tools.events.record(
                record.pod, "Warning", "FailedPreStopHook", text, step.container
            )

    async def resize(self, record: Record, step: plan.Resize) -> None:
        container = record.pod.container(step.container)
        if container is None:
            return
        granted = limits(container, qos_class(record.pod), self._tools.capacity.memory)
        try:
            await self._tools.runtime.update_resources(step.id, granted)
        except RuntimeFailure as error:
            text = f"Error: cannot resize: {error}"
            self._tools.events.record(record.pod, "Warning", "ResizeError", text, step.container)
            raise
        done = {**record.of(step.container).resized, step.id: asked(container)}
        record.remember(step.container, resized=done)
        text = f"Resized container {step.container}"
        self._tools.events.record(record.pod, "Normal", "ResizeCompleted", text, step.container)

    async def remove(self, record: Record, step: plan.Remove) -> None:
        await self._tools.runtime.remove_container(step.id)
        run = next((c for c in record.seen.containers if c.id == step.id), None)
        record.seen = record.seen.without_container(step.id)
        if run and run.log_path:
            remove_log(Path(run.log_path))
            self._message_file(record, run.name, run.attempt).unlink(missing_ok=True)

    # Looking

    async def look(self, record: Record, container: str) -> Container | None:
        """Take in what the runtime says of a container now."""
        try:
            found = await self._tools.runtime.container(container)
        except Missing:
            record.seen = record.seen.without_container(container)
            return None
        known = next((c for c in record.seen.containers if c.id == container), None)
        if known is None or (known.ended and known.finished_at):
            return known  # meanwhile it was removed, or somebody else saw its end
        return self._take(record, replace(found, sandbox=known.sandbox))

    def _take(self, record: Record, run: Container) -> Container:
        container = record.pod.container(run.name)
        if run.ended and container:
            file = self._message_file(record, run.name, run.attempt)
            words = last_words(container, run, file, Path(run.log_path))
            run = replace(run, message=words)
        if record.see(run) and container:
            self._tell_end(record, run)
        return run

    def _tell_end(self, record: Record, run: Container) -> None:
        memory = record.of(run.name)
        if restart_pause(memory.crashes) and not record.pod.metadata.deleting:
            text = (
                f"Back-off restarting failed container {run.name} in pod {record.pod.described()}"
            )
            self._tools.events.record(record.pod, "Warning", "BackOff", text, run.name)

    async def ended(self, record: Record, container: str) -> None:
        """The runtime has told of an end: have it taken in as soon as it shows."""
        try:
            await self._await_end(record, container)
        except RuntimeFailure as error:
            log.info("%s: %s", record.pod.metadata.key, error)
            record.stale = True
        self._tools.poke(record.uid)

    async def _await_end(self, record: Record, container: str) -> None:
        pause, left = 0.01, END_SHOWN_WITHIN
        while True:
            run = await self.look(record, container)
            if run is None or run.ended or left <= 0:
                return
            await asyncio.sleep(pause)
            left -= pause
            pause = min(pause * 1.5, 0.25)


def _target(record: Record, container: ContainerSpec) -> str:
    """The run that an ephemeral container is to look at; raise ConfigError if it does not run."""
    name = container.target_container_name
    if not name:
        return ""
    run = record.seen.latest(name)
    if run is None or not run.running:
        raise ConfigError(f"unable to find target container {name!r}: it does not run")
    return run.id
