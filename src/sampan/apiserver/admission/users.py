"""What users set up to have a say in admission: webhooks and policies, with all that they read.

Everything is compiled when it has changed, which one list tells, and costs nothing else while there
is none.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from sampan.api import kinds
from sampan.api.errors import ApiError
from sampan.api.kinds import KINDS, Kind
from sampan.api.objects import Object
from sampan.apiserver.admission import policies, webhooks
from sampan.apiserver.admission.attempt import Attempt
from sampan.apiserver.admission.conditions import Scene
from sampan.apiserver.admission.matching import is_exempt
from sampan.apiserver.admission.parameters import Served, parameters
from sampan.apiserver.admission.policies import Binding, MutatingPolicy, Policy, ValidatingPolicy
from sampan.apiserver.admission.rights import Rights
from sampan.apiserver.admission.webhooks import Webhook, completed
from sampan.apiserver.expressions import CannotCompile, CannotEvaluate
from sampan.apiserver.interface import Caller
from sampan.apiserver.reading import Reader

_GROUP: Final = "admissionregistration.k8s.io"
_PREFIX: Final = f"/{_GROUP}/"
_MINE: Final = {kind.key(): kind for kind in KINDS if kind.group == _GROUP}
_ASKS_RIGHTS: Final = b"authorizer"


class Setup(Struct, frozen=True):
    """All that users have set up, compiled."""

    mutating: Sequence[Webhook] = ()
    validating: Sequence[Webhook] = ()
    mutations: Sequence[tuple[Policy, Binding]] = ()
    validations: Sequence[tuple[Policy, Binding]] = ()
    asks_rights: bool = False


class _Step(Protocol):
    """One that may change the object, and perhaps wants to again when others did after it."""

    repeats: bool

    async def __call__(self, scene: Scene) -> None: ...


class Users:
    def __init__(self, reader: Reader, served: Served, call: Caller) -> None:
        self._reader = reader
        self.served = served
        self._call = call
        self._rights = Rights(reader)
        self._marks: Sequence[tuple[str, int]] = ()
        self._setup = Setup()

    async def complete(self, attempt: Attempt) -> None:
        """Let policies and then webhooks change the object, and those that ask for it once more."""
        setup = await self._current(attempt)
        if not setup.mutating and not setup.mutations:
            return
        scene = await self._scene(attempt, setup)
        steps: list[_Step] = [_Mutation(self, *pair) for pair in setup.mutations]
        steps += [_Asking(hook, self._call) for hook in setup.mutating]
        left: list[tuple[_Step, Object | None]] = []
        for step in steps:
            await step(scene)
            left.append((step, attempt.object))
        for step, before in left:
            if step.repeats and before is not attempt.object and before != attempt.object:
                await step(scene)

    async def check(self, attempt: Attempt) -> None:
        """Let policies and then webhooks refuse the attempt."""
        setup = await self._current(attempt)
        if not setup.validating and not setup.validations:
            return
        scene = await self._scene(attempt, setup)
        for policy, binding in setup.validations:
            if isinstance(policy, ValidatingPolicy):
                await self._validate(scene, policy, binding)
        await webhooks.validate_all(setup.validating, scene, self._call)

    async def _current(self, attempt: Attempt) -> Setup:
        if is_exempt(attempt):
            return Setup()
        page = await self._reader.store.list(_PREFIX)
        marks = [(change.key, change.revision) for change in page.items]
        if marks != self._marks:
            found: dict[Kind, list[Object]] = {kind: [] for kind in _MINE.values()}
            for change in page.items:
                kind = _MINE[change.key[: change.key.rindex("/") + 1]]
                found[kind].append(self._reader.entry(kind, change).object)
            asks = any(_ASKS_RIGHTS in (change.value or b"") for change in page.items)
            self._setup = _set_up(found, asks_rights=asks)
            self._marks = marks
        return self._setup

    async def _scene(self, attempt: Attempt, setup: Setup) -> Scene:
        namespace = None
        if attempt.namespace:
            found = await self._reader.find(kinds.NAMESPACES, "", attempt.namespace)
            namespace = found.object if found else None
        rights = await self._rights.asked_by(attempt.call.user, needed=setup.asks_rights)
        return Scene(attempt, namespace, rights)

    async def applicable(
        self, scene: Scene, policy: Policy, binding: Binding
    ) -> Sequence[Object | None]:
        """The parameters with which *policy* is to be evaluated; none if it is not to be at all."""
        attempt = scene.attempt
        for match in (policy.match, binding.match):
            if match.finds(attempt, scene.namespace) is None:
                return ()
        found = await parameters(self._reader, self.served, policy, binding, attempt.namespace)
        return [params for params in found if policy.applies(scene, params)]

    async def _validate(self, scene: Scene, policy: ValidatingPolicy, binding: Binding) -> None:
        try:
            told = [
                broken
                for params in await self.applicable(scene, policy, binding)
                for broken in policy.broken(scene, params)
            ]
        except (CannotCompile, CannotEvaluate) as error:
            if policy.ignores_failure:
                return
            told = [(str(error), "Invalid")]
        for message, reason in told:
            if "Warn" in binding.actions:
                scene.attempt.warn(
                    f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with "
                    f"binding '{binding.name}': {message}"
                )
            if "Deny" in binding.actions:
                raise policies.refusal(scene, policy.name, binding.name, message, reason)


class _Asking:
    def __init__(self, hook: Webhook, call: Caller) -> None:
        self.repeats = hook.repeats
        self._hook = hook
        self._call = call

    async def __call__(self, scene: Scene) -> None:
        await self._hook.mutate(scene, self._call)


class _Mutation:
    def __init__(self, users: Users, policy: Policy, binding: Binding) -> None:
        self._users = users
        self._policy = policy
        self._binding = binding
        self.repeats = isinstance(policy, MutatingPolicy) and policy.repeats

    async def __call__(self, scene: Scene) -> None:
        attempt, policy = scene.attempt, self._policy
        if attempt.object is None or not isinstance(policy, MutatingPolicy):
            return
        before = attempt.object
        try:
            for params in await self._users.applicable(scene, policy, self._binding):
                attempt.object = completed(attempt, policy.mutated(scene, params))
        except (ApiError, CannotCompile, CannotEvaluate) as error:
            attempt.object = before
            if not policy.ignores_failure:
                raise policies.misconfigured(
                    scene, policy.name, self._binding.name, str(error)
                ) from error


def _set_up(found: dict[Kind, list[Object]], *, asks_rights: bool) -> Setup:
    return Setup(
        mutating=webhooks.read(found[webhooks.MUTATING]),
        validating=webhooks.read(found[webhooks.VALIDATING]),
        mutations=policies.bound(
            map(MutatingPolicy, found[policies.MUTATING]),
            map(Binding, found[policies.MUTATING_BINDINGS]),
        ),
        validations=policies.bound(
            map(ValidatingPolicy, found[policies.VALIDATING]),
            map(Binding, found[policies.VALIDATING_BINDINGS]),
        ),
        asks_rights=asks_rights,
    )
