"""The frames of `v5.channel.k8s.io`: the first byte says which channel the rest belongs to."""

from typing import Final

import orjson

from sampan.api.objects import Object

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
ERROR: Final = 3
RESIZE: Final = 4
CLOSE: Final = 255

SUCCESS: Final[Object] = {"metadata": {}, "status": "Success"}


def frame(channel: int, data: bytes) -> bytes:
    return bytes((channel,)) + data


def final_frame(status: Object) -> bytes:
    return frame(ERROR, orjson.dumps(status))


def parse_size(data: bytes) -> tuple[int, int] | None:
    """Read a resize frame as (width, height); None if it does not make sense."""
    try:
        size = orjson.loads(data)
        width, height = int(size["Width"]), int(size["Height"])
    except (ValueError, TypeError, KeyError):
        return None
    return (width, height) if 0 < width < 1 << 16 and 0 < height < 1 << 16 else None


def exit_status(code: int, command: str) -> Object:
    """Tell how a process ended, in the words that kubectl takes its exit code from."""
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: "
        f"error executing command {command}, exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
