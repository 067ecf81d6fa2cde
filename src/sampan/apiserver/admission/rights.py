"""Who may do what, for expressions that ask."""

from collections.abc import Mapping

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.apiserver.authz import Attributes, Policy
from sampan.apiserver.expressions.asking import Allows, Question
from sampan.apiserver.identity import User
from sampan.apiserver.reading import Reader

_SERVICE_ACCOUNT = "system:serviceaccount:"


class Rights:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def asked_by(self, user: User, *, needed: bool) -> Allows:
        """A function that tells what *user* may; of nobody anything unless it is *needed*."""
        if not needed:
            return lambda _: None
        policy = Policy.of(
            roles=await self._reader.all(kinds.ROLES),
            cluster_roles=await self._reader.all(kinds.CLUSTER_ROLES),
            bindings=await self._reader.all(kinds.ROLE_BINDINGS),
            cluster_bindings=await self._reader.all(kinds.CLUSTER_ROLE_BINDINGS),
        )
        return lambda question: _answer(policy, user, question)


def _answer(policy: Policy, user: User, question: Question) -> str | None:
    if name := question.get("user"):
        namespace = name.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}",
                  "system:authenticated")  # fmt: skip
        user = User(name, groups)
    return policy.allows(user, _attributes(question))


def _attributes(question: Mapping[str, str] | Object) -> Attributes:
    fields = ("group", "resource", "subresource", "namespace", "name", "path")
    given = {field: question[field] for field in fields if isinstance(question.get(field), str)}
    return Attributes(question["verb"], **given)
