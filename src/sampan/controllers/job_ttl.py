"""Delete Jobs `ttlSecondsAfterFinished` after they have ended, with all that is theirs."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Delete,
    World,
    for_each,
    itself,
)
from sampan.controllers.views_batch import Job

NAME: Final = "ttl-after-finished-controller"


def reconcile(job: Job, world: World) -> Iterator[Action]:
    keep, end = job.spec.ttl_seconds_after_finished, job.finished
    if keep is None or end is None or job.metadata.deleting:
        return
    until = (end.last_transition_time or world.now) + timedelta(seconds=keep)
    left = (until - world.now).total_seconds()
    yield CheckAgain(left) if left > 0 else Delete(job, propagation="Foreground")


CONTROLLER: Final = Controller(NAME, {Job: itself}, for_each(Job, reconcile))
