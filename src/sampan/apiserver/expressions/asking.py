"""Whom an expression asks about rights, while it is evaluated."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Question = Mapping[str, str]
"""verb, and path or group, resource, subresource, namespace, name; user if it is another one."""
Allows = Callable[[Question], str | None]
"""The reason why it is allowed, None if it is not."""
asked: ContextVar[Allows] = ContextVar("asked")


@contextmanager
def asking(allows: Allows) -> Iterator[None]:
    """Let *allows* answer what is checked meanwhile."""
    token = asked.set(allows)
    try:
        yield
    finally:
        asked.reset(token)
