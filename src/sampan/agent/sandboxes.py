"""What a Pod's containers share is made and taken away: volumes, address, /etc/hosts."""

import asyncio
from pathlib import Path
from typing import Final

from sampan.agent import plan
from sampan.agent.containerconfig import hosts_file, log_directory, sandbox_config
from sampan.agent.env import ConfigError
from sampan.agent.memory import Waiting
from sampan.agent.record import Record
from sampan.agent.runtime import Mount, RuntimeFailure, SandboxConfig
from sampan.agent.tools import Tools, soon
from sampan.api.errors import ApiError

HOSTS: Final = "/etc/hosts"


class Sandboxes:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        # Much removal at once would only make everything slower: it is all CPU.
        self._ending = asyncio.Semaphore(tools.capacity.cpus)

    async def prepare(self, record: Record, _step: plan.PrepareVolumes) -> None:
        try:
            await self._tools.volumes.prepare(self._tools.around(record))
        except (ConfigError, OSError, ApiError) as error:
            self._failed(record, "FailedMount", f"MountVolume.SetUp failed: {error}")
        else:
            record.note(prepared=True, waiting=None, failures=0, retry_at=None)

    async def run(self, record: Record, step: plan.RunSandbox) -> None:
        config = self.config(record, step.attempt)
        make_directory(config.log_directory)
        try:
            sandbox = await self._tools.runtime.run_sandbox(config)
            seen = await self._tools.runtime.sandbox(sandbox)
        except RuntimeFailure as error:
            record.stale = True
            text = f"Failed to create pod sandbox: {error}"
            self._failed(record, "FailedCreatePodSandBox", text)
            return
        record.seen = record.seen.with_sandbox(seen)
        record.note(waiting=None, failures=0, retry_at=None)
        self._write_hosts(record)

    def config(self, record: Record, attempt: int) -> SandboxConfig:
        return sandbox_config(record.pod, attempt, self._tools.log_dir, self._tools.cluster)

    def _write_hosts(self, record: Record) -> None:
        sandbox = record.seen.newest
        node_hosts = Path(HOSTS).read_text() if record.pod.spec.host_network else ""
        text = hosts_file(
            record.pod, sandbox.ips if sandbox else (), self._tools.cluster, node_hosts
        )
        path = self._hosts(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)

    def _hosts(self, record: Record) -> Path:
        return self._tools.volumes.directory(record.uid) / "etc-hosts"

    def hosts_mount(self, record: Record) -> Mount:
        """The Pod's own /etc/hosts, for each of its containers."""
        if not self._hosts(record).exists():
            self._write_hosts(record)
        return Mount(container_path=HOSTS, host_path=str(self._hosts(record)))

    async def stop(self, record: Record, step: plan.StopSandbox) -> None:
        async with self._ending:
            await self._tools.runtime.stop_sandbox(step.sandbox)
        record.seen = record.seen.with_stopped(step.sandbox)

    async def remove(self, record: Record, step: plan.RemoveSandbox) -> None:
        async with self._ending:
            await self._tools.runtime.remove_sandbox(step.sandbox)
        record.seen = record.seen.without_sandbox(step.sandbox)

    def logs(self, record: Record) -> Path:
        return log_directory(record.pod, self._tools.log_dir)

    def _failed(self, record: Record, reason: str, message: str) -> None:
        failures = record.memory.failures + 1
        self._tools.events.record(record.pod, "Warning", reason, message)
        record.note(
            failures=failures,
            retry_at=self._tools.now() + soon(failures),
            waiting=Waiting("ContainerCreating", message),
        )


def make_directory(path: str | Path) -> None:
    Path(path).mkdir(parents=True, exist_ok=True)
