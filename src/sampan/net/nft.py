"""libnftables in this process: a text of nft commands is one transaction."""

import threading
from typing import Any, Final

_one_at_a_time: Final = threading.Lock()


class NftError(Exception):
    """The kernel or the parser refused; nothing of the transaction was done."""


def run(commands: str, *, handles: bool = False) -> str:
    """Run *commands* whole or not at all; return what they print, with *handles* if asked.

    Blocks: not for the event loop.

    A context belongs to the network namespace in which it was made, so each call makes its own;
    one at a time, because the library keeps some of its caches for the whole process.
    """
    with _one_at_a_time:
        context = _context()
        context.set_handle_output(handles)
        code, output, error = context.cmd(commands)
    if code:
        raise NftError(str(error).strip() or f"libnftables: error {code}")
    return str(output)


def _context() -> Any:
    from nftables import Nftables  # noqa: PLC0415 - loads a shared library

    return Nftables()
