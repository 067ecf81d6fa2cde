"""When each node was last heard of, by this process's own clock.

A node's own idea of the time is not trusted: what counts is when its renewal of the Lease arrived.
If this process itself stood still, every node would look silent at once; so a stall is given back
to all of them.
"""

import asyncio
from typing import Any, Final

from sampan.api.objects import Lease, Node, condition
from sampan.client.cache import Delta

NAMESPACE: Final = "kube-node-lease"
TICK: Final = 0.5
GRACE: Final = 15.0
"""A node that we only begin to watch, because it or we just started, gets so long to be heard."""
STALL: Final = 0.2
"""A tick that comes so many seconds late means that we were not running."""


def _renewed(delta: Delta[Any]) -> bool:
    old, new = delta.old, delta.new
    if delta.view is not Lease or new is None or new.metadata.namespace != NAMESPACE:
        return False
    return old is None or old.spec.renew_time != new.spec.renew_time


def _reported(old: Node, new: Node) -> bool:
    """Whether the agent itself changed the Ready condition: only we ever call it Unknown."""
    before = condition(old.status.conditions, "Ready")
    after = condition(new.status.conditions, "Ready")
    return after is not None and after.status != "Unknown" and after != before


class Heartbeats:
    def __init__(self) -> None:
        self.heard: dict[str, float] = {}

    def note(self, delta: Delta[Any]) -> None:
        """Take note of a node that came, reported, or renewed its Lease.

        What was heard of it is kept when its Node is deleted: its machine may live on.
        """
        name = delta.latest.metadata.name
        now = asyncio.get_running_loop().time()
        if delta.view is Node:
            if delta.new is None:
                return
            if delta.old is None:
                if now - self.heard.get(name, -GRACE) >= GRACE:
                    self.heard[name] = now + GRACE
            elif _reported(delta.old, delta.new):
                self.heard[name] = now
        elif _renewed(delta):
            self.heard[name] = now

    async def watch_for_stalls(self) -> None:
        """Until cancelled, add the time that this process stood still to every arrival."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(TICK)
            now = loop.time()
            late = now - last - TICK
            last = now
            if late > STALL:
                for name, heard in self.heard.items():
                    self.heard[name] = max(heard, min(heard + late, now))
