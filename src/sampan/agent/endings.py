"""The last words of a container: its termination message, or the end of its log."""

from pathlib import Path
from typing import Final

from sampan.agent.logs import parse_entry
from sampan.agent.runtime import Container
from sampan.agent.spec import ContainerSpec

LONGEST: Final = 4096
"""Bytes of a termination message; Kubernetes' limit."""
LOG_BYTES: Final = 2048
LOG_LINES: Final = 80


def make_message_file(path: Path) -> None:
    """Make the file that is mounted into the container; any user may write to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.chmod(0o666)


def last_words(container: ContainerSpec, run: Container, file: Path, log: Path) -> str:
    """What the container's status says about its end, beyond the runtime's own message."""
    if run.message:
        return run.message
    if text := _head(file):
        return text
    if run.exit_code and container.termination_message_policy == "FallbackToLogsOnError":
        return _log_tail(log)
    return ""


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST).decode(errors="replace")
    except OSError:
        return ""


def _log_tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # A line of the log has some 45 bytes before its text.
            file.seek(max(path.stat().st_size - 8 * LOG_BYTES, 0))
            lines = file.read().splitlines(keepends=True)[-LOG_LINES:]
    except OSError:
        return ""
    entries = filter(None, map(parse_entry, lines))
    return b"".join(entry.text for entry in entries)[-LOG_BYTES:].decode(errors="replace")
