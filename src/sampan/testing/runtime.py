"""A container runtime in memory: for tests that need no kernel, and for clusters in one process.

A container does what its image's `Behaviour` says: run until it is stopped, or end by itself after
a while. Every delay is the event loop's, so that it costs nothing in virtual time.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sampan.agent.runtime import (
    CONTAINER_NAME,
    IMAGE_ASKED,
    POD_UID,
    RESOURCES_ASKED,
    Auth,
    Container,
    ContainerConfig,
    ContainerEnded,
    ExecResult,
    Image,
    ImageEvent,
    Limits,
    Missing,
    RuntimeFailure,
    Sandbox,
    SandboxConfig,
    State,
    TimedOut,
)
from sampan.api.images import normalised

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
KILLED: Final = 137
Event = ContainerEnded | ImageEvent


class Behaviour(Struct, frozen=True, kw_only=True):
    """What the containers of an image do."""

    runs_for: float | None = None
    """Seconds; None is until it is stopped."""
    exit_code: int = 0
    reason: str = ""
    obeys_after: float = 0.0
    """Seconds from its stop signal to its end."""
    fails_to_start: str = ""


Exec = Callable[[Container, Sequence[str]], ExecResult]


def succeed(_container: Container, _command: Sequence[str]) -> ExecResult:
    return ExecResult(0, b"")


def loop_time() -> datetime:
    """The event loop's time as a date, so that virtual time moves it."""
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def _touch(path: str) -> None:
    Path(path).touch()


class FakeRuntime:
    """*images* are here; what *registry* has besides can be pulled."""

    def __init__(
        self,
        images: Mapping[str, Behaviour],
        *,
        registry: Mapping[str, Behaviour] | None = None,
        now: Callable[[], datetime] = loop_time,
        takes: float = 0.0,
        addresses: str = "10.42.0.",
    ) -> None:
        self._behaviours = {normalised(name): b for name, b in images.items()}
        self._registry = {normalised(name): b for name, b in (registry or {}).items()}
        self._now = now
        self._takes = takes
        self._prefix = addresses
        self._serial = itertools.count(2)
        self._listeners: list[asyncio.Queue[Event]] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._configs: dict[str, ContainerConfig] = {}
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, Container] = {}
        self.exec_answer: Exec = succeed
        self.calls: list[tuple[str, str]] = []
        self.pulled_with: list[Auth | None] = []
        self.fails: dict[str, str] = {}
        """What each named call refuses with, until it is taken out."""

    # What a test may do and see

    def end(self, container: str, exit_code: int = 0, reason: str = "") -> None:
        """Let a running container end."""
        run = self._containers[container]
        if not run.running:
            return
        if timer := self._timers.pop(container, None):
            timer.cancel()
        self._containers[container] = replace(
            run,
            state=State.EXITED,
            exit_code=exit_code,
            reason=reason or ("Completed" if exit_code == 0 else "Error"),
            finished_at=self._now(),
        )
        self._ends[container].set()
        self._tell(ContainerEnded(container))

    def break_sandbox(self, sandbox: str) -> None:
        """Let a sandbox and all in it die, as in a reboot; nobody is told."""
        for run in [c for c in self._containers.values() if c.sandbox == sandbox and c.running]:
            self.end(run.id, KILLED)
        self._sandboxes[sandbox] = replace(self._sandboxes[sandbox], ready=False)

    def load(self, name: str, behaviour: Behaviour) -> None:
        """Bring an image, as `sampan image load` does."""
        self._behaviours[normalised(name)] = behaviour
        self._tell(ImageEvent(normalised(name)))

    def runs(self, name: str = "") -> list[Container]:
        """The containers of that name, or all, the oldest first."""
        every = [c for c in self._containers.values() if not name or c.name == name]
        return sorted(every, key=lambda c: (c.created_at, c.attempt))

    def config(self, container: str) -> ContainerConfig:
        return self._configs[container]

    # The port

    async def sandboxes(self) -> Sequence[Sandbox]:
        await self._enter("sandboxes", "")
        return [replace(sandbox, ips=()) for sandbox in self._sandboxes.values()]

    async def sandbox(self, sandbox: str) -> Sandbox:
        await self._enter("sandbox", sandbox)
        return self._known_sandbox(sandbox)

    async def containers(self) -> Sequence[Container]:
        await self._enter("containers", "")
        return [
            replace(c, started_at=None, finished_at=None, exit_code=0, reason="")
            for c in self._containers.values()
        ]

    async def container(self, container: str) -> Container:
        await self._enter("container", container)
        return self._known(container)

    async def run_sandbox(self, config: SandboxConfig) -> str:
        await self._enter("run_sandbox", config.name)
        number = next(self._serial)
        made = Sandbox(
            id=f"sandbox-{number}",
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            attempt=config.attempt,
            ready=True,
            created_at=self._now(),
            ips=(f"{self._prefix}{number}",),
        )
        self._sandboxes[made.id] = made
        return made.id

    async def stop_sandbox(self, sandbox: str) -> None:
        await self._enter("stop_sandbox", sandbox)
        if sandbox in self._sandboxes:
            self.break_sandbox(sandbox)

    async def remove_sandbox(self, sandbox: str) -> None:
        await self._enter("remove_sandbox", sandbox)
        if self._sandboxes.pop(sandbox, None):
            for run in [c for c in self._containers.values() if c.sandbox == sandbox]:
                self._forget(run.id)

    async def create_container(
        self, sandbox: str, config: ContainerConfig, sandbox_config: SandboxConfig
    ) -> str:
        await self._enter("create_container", config.name)
        self._known_sandbox(sandbox)
        name = f"container-{next(self._serial)}"
        self._configs[name] = config
        self._ends[name] = asyncio.Event()
        self._containers[name] = Container(
            id=name,
            sandbox=sandbox,
            uid=config.labels[POD_UID],
            name=config.labels[CONTAINER_NAME],
            attempt=config.attempt,
            state=State.CREATED,
            created_at=self._now(),
            image=config.image,
            image_ref=f"{config.image}@sha256:0",
            image_asked=config.annotations[IMAGE_ASKED],
            resources_asked=config.annotations.get(RESOURCES_ASKED, ""),
            log_path=f"{sandbox_config.log_directory}/{config.log_path}",
        )
        return name

    async def start_container(self, container: str) -> None:
        await self._enter("start_container", container)
        run = self._known(container)
        does = self._behaviours[self._configs[container].image]
        if does.fails_to_start:
            self._containers[container] = replace(
                run,
                state=State.EXITED,
                exit_code=128,
                reason="StartError",
                message=does.fails_to_start,
                finished_at=self._now(),
            )
            raise RuntimeFailure(does.fails_to_start)
        self._containers[container] = replace(run, state=State.RUNNING, started_at=self._now())
        if does.runs_for is not None:
            loop = asyncio.get_running_loop()
            self._timers[container] = loop.call_later(
                does.runs_for, self.end, container, does.exit_code, does.reason
            )

    async def stop_container(self, container: str, grace: int) -> None:
        await self._enter("stop_container", container)
        run = self._containers.get(container)
        if run is None or not run.running:
            return
        after = self._behaviours[self._configs[container].image].obeys_after
        loop = asyncio.get_running_loop()
        if after > grace:
            loop.call_later(grace, self.end, container, KILLED)
        else:
            loop.call_later(after, self.end, container, 0)
        await self._ends[container].wait()

    async def remove_container(self, container: str) -> None:
        await self._enter("remove_container", container)
        if container in self._containers:
            self._forget(container)

    async def update_resources(self, container: str, limits: Limits) -> None:
        await self._enter("update_resources", container)
        self._known(container)
        self._configs[container] = replace(self._configs[container], limits=limits)

    async def reopen_log(self, container: str) -> None:
        await self._enter("reopen_log", container)
        _touch(self._known(container).log_path)

    async def exec(self, container: str, command: Sequence[str], timeout: float) -> ExecResult:  # noqa: ASYNC109 - the port's
        await self._enter("exec", container)
        run = self._known(container)
        if not run.running:
            raise RuntimeFailure(f"container {container} is not running")
        try:
            return self.exec_answer(run, command)
        except TimeoutError as error:
            raise TimedOut(f"no answer within {timeout:g}s") from error

    async def image(self, name: str) -> Image | None:
        await self._enter("image", name)
        full = normalised(name)
        return Image(full) if full in self._behaviours else None

    async def pull(self, name: str, auth: Auth | None, sandbox: SandboxConfig | None) -> None:
        del sandbox
        self.pulled_with.append(auth)
        await self._enter("pull", name)
        full = normalised(name)
        if full not in self._registry:
            raise RuntimeFailure(f'failed to resolve reference "{full}": {full}: not found')
        self._behaviours[full] = self._registry[full]
        self._tell(ImageEvent(full))

    async def events(self) -> AsyncGenerator[Event, None]:
        mine: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.append(mine)
        try:
            while True:
                yield await mine.get()
        finally:
            self._listeners.remove(mine)

    async def _enter(self, call: str, subject: str) -> None:
        self.calls.append((call, subject))
        await asyncio.sleep(self._takes)
        if refusal := self.fails.get(call):
            raise RuntimeFailure(refusal)

    def _known(self, container: str) -> Container:
        if found := self._containers.get(container):
            return found
        raise Missing(f"container {container} not found")

    def _known_sandbox(self, sandbox: str) -> Sandbox:
        if found := self._sandboxes.get(sandbox):
            return found
        raise Missing(f"sandbox {sandbox} not found")

    def _forget(self, container: str) -> None:
        self.end(container, KILLED)
        for table in (self._containers, self._configs, self._ends):
            table.pop(container, None)

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener.put_nowait(event)
