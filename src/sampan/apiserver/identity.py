"""Who is asking."""

from typing import Final

from msgspec import Struct


class User(Struct, frozen=True):
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = {}


ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))
CONTROL_PLANE: Final = User("system:sampan", ("system:masters", "system:authenticated"))
