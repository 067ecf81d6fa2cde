"""CEL's `authorizer`: whether somebody may do something, asked step by step.

`authorizer.group('apps').resource('deployments').namespace('a').check('get').allowed()`. The steps
gather a question; `check` asks it of the one who answers during `asking`. Source: Kubernetes,
k8s.io/apiserver, pkg/cel/library/authz.go.
"""

from collections.abc import Callable
from typing import Final

from cel_expr_python import cel

from sampan.apiserver.expressions.asking import asked
from sampan.apiserver.expressions.library import Tagged, declared, function

_T: Final = cel.Type
_TAGGED: Final = _T.Map(_T.STRING, _T.DYN)


def _step(field: str) -> Callable[[Tagged, str], Tagged]:
    return lambda question, value: {**question, field: value}


def _account(question: Tagged, namespace: str, name: str) -> Tagged:
    return {**question, "user": f"system:serviceaccount:{namespace}:{name}"}


def _check(question: Tagged, verb: str) -> Tagged:
    reason = asked.get()({**question, "verb": verb})
    return {"allowed": reason is not None, "reason": reason or ""}


FUNCTIONS: Final = declared((
    *(function(name, _TAGGED, [_TAGGED, _T.STRING], _step(name), member=True)
      for name in ("path", "group", "resource", "subresource", "namespace", "name")),
    function("serviceAccount", _TAGGED, [_TAGGED, _T.STRING, _T.STRING], _account, member=True),
    function("check", _TAGGED, [_TAGGED, _T.STRING], _check, member=True),
    function("allowed", _T.BOOL, [_TAGGED], lambda decision: decision["allowed"], member=True),
    function("reason", _T.STRING, [_TAGGED], lambda decision: decision["reason"], member=True),
    function("errored", _T.BOOL, [_TAGGED], lambda _: False, member=True),
    function("error", _T.STRING, [_TAGGED], lambda _: "", member=True),
))  # fmt: skip
