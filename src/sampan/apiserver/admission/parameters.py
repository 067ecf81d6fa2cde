"""The parameters of a policy, as one of its bindings names them."""

from collections.abc import Callable, Iterable, Sequence

from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object
from sampan.api.selectors import from_label_selector
from sampan.apiserver.admission.policies import Binding, Policy
from sampan.apiserver.expressions import CannotEvaluate
from sampan.apiserver.reading import Reader

Served = Callable[[], Iterable[Kind]]


async def parameters(
    reader: Reader, served: Served, policy: Policy, binding: Binding, namespace: str
) -> Sequence[Object | None]:
    """What to evaluate *policy* with, once for each; raise CannotEvaluate if it is not there."""
    ref = binding.parameters
    if policy.parameter_kind is None or ref is None:
        return [None]
    kind = _kind(policy.parameter_kind, served)
    place = (ref.get("namespace") or namespace) if kind.namespaced else ""
    if kind.namespaced and not place:
        raise CannotEvaluate("cannot use namespaced paramRef in policy binding that matches "
                             "cluster-scoped resources")  # fmt: skip
    if ref.get("name"):
        entry = await reader.find(kind, place, ref["name"])
        found = [entry.object] if entry else []
    else:
        selector = from_label_selector(ref.get("selector") or {})
        every = await reader.all(kind, place)
        found = [o for o in every if selector and selector.matches(_labels(o))]
    if not found and ref.get("parameterNotFoundAction") == "Deny":
        raise CannotEvaluate("no params found for policy binding with `Deny` "
                             "parameterNotFoundAction")  # fmt: skip
    return found


def _kind(named: Object, served: Served) -> Kind:
    version, name = named.get("apiVersion", ""), named.get("kind", "")
    if found := BY_GVK.get((version, name)):
        return found
    for kind in served():
        if (kind.api_version, kind.kind) == (version, name):
            return kind
    raise CannotEvaluate(f"paramKind kind `{version}, Kind={name}` is not known")


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}
