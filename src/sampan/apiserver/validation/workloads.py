"""Rules of what keeps Pods. Source: Kubernetes, pkg/apis/apps/validation."""

import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final

from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.api.selectors import Selector, from_label_selector
from sampan.apiserver.problems import bad_value, not_allowed, required, shown, unsupported
from sampan.apiserver.validation import names
from sampan.apiserver.validation.metadata import validate_labels
from sampan.apiserver.validation.pods import validate_template

_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
_PERCENT: Final = re.compile(r"\d+%")
IMMUTABLE: Final = "field is immutable"
_STATEFUL: Final = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
    "'minReadySeconds' are forbidden"
)
_STATEFUL_MUTABLE: Final = frozenset({
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
})  # fmt: skip
_STRATEGIES: Final = ("RollingUpdate", "OnDelete")
_MANAGEMENT: Final = ("OrderedReady", "Parallel")
_RETENTION: Final = ("Delete", "Retain")
_NOTHING: Final = (0, "0%")


def validate_replicated(obj: Object) -> Iterator[Cause]:
    """Rules that all workloads with a selector and a template share."""
    spec = obj.get("spec") or {}
    yield from not_negative(spec, "replicas", "minReadySeconds", "revisionHistoryLimit")
    yield from _validate_selector(spec)
    yield from validate_pods_of(spec, ("Always",))


def validate_deployment(obj: Object) -> Iterator[Cause]:
    yield from validate_replicated(obj)
    spec = obj.get("spec") or {}
    yield from _validate_strategy(spec.get("strategy") or {})
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        why = "must be greater than minReadySeconds"
        yield bad_value("spec.progressDeadlineSeconds", deadline, why)


def _validate_strategy(strategy: Object) -> Iterator[Cause]:
    kinds = ("Recreate", "RollingUpdate")
    if (kind := strategy.get("type")) not in kinds:
        yield unsupported("spec.strategy.type", kind or "", kinds)
    rolling = strategy.get("rollingUpdate")
    if kind == "Recreate" and rolling is not None:
        why = "may not be specified when strategy `type` is 'Recreate'"
        yield not_allowed("spec.strategy.rollingUpdate", why)
    elif kind == "RollingUpdate" and rolling is not None:
        for field in ("maxUnavailable", "maxSurge"):
            yield from _validate_share(
                rolling.get(field, 0), f"spec.strategy.rollingUpdate.{field}"
            )
        if all(rolling.get(field) in _NOTHING for field in ("maxUnavailable", "maxSurge")):
            why = "may not be 0 when `maxSurge` is 0"
            yield bad_value("spec.strategy.rollingUpdate.maxUnavailable", 0, why)


def _validate_share(share: Any, field: str) -> Iterator[Cause]:
    if isinstance(share, str):
        if not _PERCENT.fullmatch(share):
            why = (
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. "
                "'1%',  or '93%', regex used for validation is '[0-9]+%')"
            )
            yield bad_value(field, share, why)
    elif share < 0:
        yield bad_value(field, share, "must be greater than or equal to 0")


def validate_replication_controller(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from not_negative(spec, "replicas", "minReadySeconds")
    selector = spec.get("selector") or {}
    if not selector:
        yield required("spec.selector")
    labels = _template_labels(spec)
    if selector and any(labels.get(key) != value for key, value in selector.items()):
        yield _mismatch(labels)
    yield from validate_pods_of(spec, ("Always",))


def _validate_selector(spec: Object) -> Iterator[Cause]:
    raw = spec.get("selector")
    if raw is None:
        yield required("spec.selector")
        return
    problems = list(validate_label_selector(raw, "spec.selector"))
    yield from problems
    if problems:
        return
    if not raw.get("matchLabels") and not raw.get("matchExpressions"):
        yield bad_value("spec.selector", "{}", "empty selector is invalid for deployment")
        return
    labels = _template_labels(spec)
    if spec.get("template") is not None and not _selector(raw).matches(labels):
        yield _mismatch(labels)


def _selector(raw: Object) -> Selector:
    return from_label_selector(raw) or Selector()


def _mismatch(labels: Object) -> Cause:
    told = "{" + ",".join(f"{shown(k)}:{shown(v)}" for k, v in sorted(labels.items())) + "}"
    return Cause(
        "FieldValueInvalid",
        f"Invalid value: {told}: `selector` does not match template `labels`",
        "spec.template.metadata.labels",
    )


def _template_labels(spec: Object) -> Object:
    return ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}


def validate_label_selector(raw: Object, field: str) -> Iterator[Cause]:
    yield from validate_labels(raw.get("matchLabels"), f"{field}.matchLabels")
    for index, term in enumerate(raw.get("matchExpressions") or ()):
        here = f"{field}.matchExpressions[{index}]"
        if wrong := names.qualified(term.get("key", "")):
            yield bad_value(f"{here}.key", term.get("key", ""), wrong)
        operator, values = term.get("operator"), term.get("values") or ()
        if operator not in _OPERATORS:
            yield bad_value(f"{here}.operator", operator or "", "not a valid selector operator")
        elif operator in {"In", "NotIn"} and not values:
            yield required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in {"Exists", "DoesNotExist"} and values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield not_allowed(f"{here}.values", why)


def validate_pods_of(spec: Object, policies: tuple[str, ...]) -> Iterator[Cause]:
    template = spec.get("template")
    if template is None:
        yield required("spec.template")
        return
    yield from validate_labels(_template_labels(spec), "spec.template.metadata.labels")
    yield from validate_template(template, "spec.template")
    policy = (template.get("spec") or {}).get("restartPolicy", "Always")
    if policy not in policies:
        yield unsupported("spec.template.spec.restartPolicy", policy, policies)


def not_negative(part: Object, *fields: str, under: str = "spec") -> Iterator[Cause]:
    for field in fields:
        if (value := part.get(field) or 0) < 0:
            yield bad_value(f"{under}.{field}", value, "must be greater than or equal to 0")


def validate_stateful_set(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from validate_replicated({**obj, "spec": _with_claims(spec)})
    policy = spec.get("podManagementPolicy")
    if policy not in _MANAGEMENT:
        yield unsupported("spec.podManagementPolicy", policy or "", _MANAGEMENT)
    rolling = yield from _rolling_update(spec)
    yield from not_negative(rolling, "partition", under="spec.updateStrategy.rollingUpdate")
    if (most := rolling.get("maxUnavailable")) is not None:
        field = "spec.updateStrategy.rollingUpdate.maxUnavailable"
        yield from _validate_share(most, field)
        if most in _NOTHING:
            yield bad_value(field, most, "cannot be 0")
    yield from not_negative(spec.get("ordinals") or {}, "start", under="spec.ordinals")
    for field, choice in (spec.get("persistentVolumeClaimRetentionPolicy") or {}).items():
        if choice not in _RETENTION:
            where = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            yield unsupported(where, choice, _RETENTION)


def _with_claims(spec: Object) -> Object:
    """Return *spec* with the volumes that its Pods will have: claims go before the template's."""
    template = spec.get("template") or {}
    pod = template.get("spec")
    claims = [(claim.get("metadata") or {}).get("name") for claim in _claims(spec)]
    if pod is None or not claims:
        return spec
    own = [volume for volume in pod.get("volumes") or () if volume.get("name") not in claims]
    made = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {**spec, "template": {**template, "spec": {**pod, "volumes": [*made, *own]}}}


def _claims(spec: Object) -> Sequence[Object]:
    return spec.get("volumeClaimTemplates") or ()


def validate_daemon_set(obj: Object) -> Iterator[Cause]:
    yield from validate_replicated(obj)
    rolling = yield from _rolling_update(obj.get("spec") or {})
    shares = [rolling.get(field, 0) for field in ("maxUnavailable", "maxSurge")]
    for field, share in zip(("maxUnavailable", "maxSurge"), shares, strict=True):
        yield from _validate_share(share, f"spec.updateStrategy.rollingUpdate.{field}")
    field = "spec.updateStrategy.rollingUpdate"
    if rolling and all(share in _NOTHING for share in shares):
        yield required(f"{field}.maxUnavailable", "cannot be 0 when maxSurge is 0")
    elif rolling and all(share not in _NOTHING for share in shares):
        why = "may not be set when maxUnavailable is non-zero"
        yield bad_value(f"{field}.maxSurge", shares[1], why)


def _rolling_update(spec: Object) -> Generator[Cause, None, Object]:
    """Check the kind of an updateStrategy, and return what it says of rolling updates."""
    strategy = spec.get("updateStrategy") or {}
    rolling: Object = strategy.get("rollingUpdate") or {}
    if (kind := strategy.get("type")) not in _STRATEGIES:
        yield unsupported("spec.updateStrategy.type", kind or "", _STRATEGIES)
    elif kind == "OnDelete" and rolling:
        why = "only allowed for updateStrategy 'RollingUpdate'"
        yield bad_value("spec.updateStrategy.rollingUpdate", "{}", why)
    return rolling


def validate_selector_kept(old: Object, new: Object) -> Iterator[Cause]:
    before, after = (obj["spec"].get("selector") for obj in (old, new))
    if before != after:
        yield Cause(
            "FieldValueInvalid",
            f"Invalid value: {_go_selector(after)}: {IMMUTABLE}",
            "spec.selector",
        )


def _go_selector(raw: Any) -> str:
    labels = ",".join(f"{shown(k)}:{shown(v)}" for k, v in sorted(_match_labels(raw).items()))
    return f'{{"matchLabels":{{{labels}}}}}'


def _match_labels(raw: Any) -> Object:
    return (raw or {}).get("matchLabels") or {}


def validate_stateful_set_update(old: Object, new: Object) -> Iterator[Cause]:
    before, after = (
        {key: value for key, value in obj["spec"].items() if key not in _STATEFUL_MUTABLE}
        for obj in (old, new)
    )
    if before != after:
        yield not_allowed("spec", _STATEFUL)
