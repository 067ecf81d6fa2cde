"""Webhooks: what each is about, when it is asked, and what becomes of its answer.

Mutating ones are asked in turn and see what those before them changed; validating ones are all
asked at once. Nothing is locked while they think.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import uuid4

from msgspec import structs

from sampan.api.errors import ApiError, BadRequest, InternalError
from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object
from sampan.apiserver import defaults
from sampan.apiserver.admission import reviews
from sampan.apiserver.admission.attempt import Attempt
from sampan.apiserver.admission.conditions import Conditions, Scene
from sampan.apiserver.admission.matching import Match, kept_as, shown_as
from sampan.apiserver.decoding import decoded
from sampan.apiserver.expressions import CannotCompile, CannotEvaluate
from sampan.apiserver.interface import Caller
from sampan.apiserver.patches import json_patch

MUTATING: Final = BY_GVK["admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"]
VALIDATING: Final = BY_GVK["admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"]
_HARMLESS: Final = frozenset({"None", "NoneOnDryRun"})

log = logging.getLogger(__name__)


class Webhook:
    """One entry of a configuration, ready to be asked."""

    def __init__(self, raw: Object) -> None:
        self.name: str = raw["name"]
        self.repeats = raw.get("reinvocationPolicy") == "IfNeeded"
        self._config: Object = raw["clientConfig"]
        self._match = Match.of(raw, "rules")
        self._ignores_failure = raw.get("failurePolicy") == "Ignore"
        self._seconds = float(raw.get("timeoutSeconds") or 10)
        self._harmless = raw.get("sideEffects") in _HARMLESS
        self._conditions = Conditions(raw.get("matchConditions") or ())

    async def mutate(self, scene: Scene, call: Caller) -> None:
        """Let the webhook change the attempt's object; raise if it refuses."""
        attempt = scene.attempt
        kind = await self._meant(scene)
        if kind is None:
            return
        verdict = await self._ask(attempt, kind, call)
        if verdict and verdict.patch is not None and attempt.object is not None:
            try:
                attempt.object = _patched(attempt, kind, verdict.patch)
            except ApiError as error:
                self._failed(error)

    async def validate(self, scene: Scene, call: Caller) -> None:
        """Raise if the webhook refuses the attempt."""
        kind = await self._meant(scene)
        if kind is not None:
            await self._ask(scene.attempt, kind, call)

    async def _meant(self, scene: Scene) -> Kind | None:
        attempt = scene.attempt
        kind = self._match.finds(attempt, scene.namespace)
        if kind is None:
            return None
        try:
            if not self._conditions.hold(scene):
                return None
        except (CannotCompile, CannotEvaluate) as error:
            if self._ignores_failure:
                return None
            raise attempt.refused(str(error)) from error
        if attempt.call.dry_run and not self._harmless:
            raise BadRequest(f'admission webhook "{self.name}" does not support dry run')
        return kind

    async def _ask(self, attempt: Attempt, kind: Kind, call: Caller) -> reviews.Verdict | None:
        """The answer; None if there is none and that may be ignored; raise if it is a refusal."""
        uid = str(uuid4())
        body = reviews.review(reviews.request(attempt, kind, uid))
        try:
            verdict = reviews.verdict(await call(self._config, body, self._seconds), uid)
        except ApiError as error:
            self._failed(error)
            return None
        for warning in verdict.warnings:
            attempt.warn(warning)
        if not verdict.allowed:
            raise reviews.denial(self.name, verdict.status)
        return verdict

    def _failed(self, error: ApiError) -> None:
        """Go on without the webhook where its owner allows it, else raise."""
        if self._ignores_failure:
            log.warning("webhook %s is ignored: %s", self.name, error)
            return
        raise InternalError(
            f'Internal error occurred: failed calling webhook "{self.name}": failed to call '
            f"webhook: {error}"
        ) from error


def _patched(attempt: Attempt, kind: Kind, patch: object) -> Object:
    """The attempt's object as a webhook wants it, complete again."""
    shown = shown_as(kind, attempt.kind, attempt.new)
    return completed(attempt, kept_as(kind, attempt.kind, json_patch.apply(shown, patch)))


def completed(attempt: Attempt, obj: Object) -> Object:
    """*obj*, made of the attempt's by somebody else, with its defaults and nothing unknown."""
    call = structs.replace(attempt.call, validation="Ignore")
    kept = decoded(attempt.object_kind, obj, call)
    if not attempt.shown_kind:
        defaults.apply(attempt.kind, kept)
    return kept


def read(configurations: Iterable[Object]) -> list[Webhook]:
    """The webhooks in all *configurations*, in the order in which they are asked."""
    ordered = sorted(configurations, key=lambda obj: str(obj["metadata"]["name"]))
    return [Webhook(raw) for obj in ordered for raw in obj.get("webhooks") or ()]


async def validate_all(webhooks: Sequence[Webhook], scene: Scene, call: Caller) -> None:
    """Ask all at once; raise what the first of them that refuses says."""
    if not webhooks:
        return
    tasks = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hook.validate(scene, call)) for hook in webhooks]
    except* ApiError:
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                raise error from None
