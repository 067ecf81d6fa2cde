"""One change that somebody asks for, on its way through admission."""

from dataclasses import dataclass, field
from typing import Literal

from sampan.api.errors import Forbidden
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.interface import Call, DeleteOptions
from sampan.apiserver.problems import forbidden

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass
class Attempt:
    """*object* is what shall be, and is replaced or changed by what completes it; *old* what is.

    With *trusted* it is the server's own doing, which nothing that users set up may hinder.
    """

    kind: Kind
    operation: Operation
    namespace: str
    name: str
    call: Call
    object: Object | None = None
    old: Object | None = None
    subresource: str = ""
    options: Object = field(default_factory=dict)
    trusted: bool = False
    shown_kind: Kind | None = None
    """The kind of *object* where that is not the resource's: a Scale, a Binding."""

    @property
    def is_pod(self) -> bool:
        return self.kind.kind == "Pod" and not self.kind.group

    @property
    def object_kind(self) -> Kind:
        return self.shown_kind or self.kind

    @property
    def new(self) -> Object:
        if self.object is None:
            raise ValueError(f"{self.operation} has no new object")
        return self.object

    def refused(self, why: str) -> Forbidden:
        return forbidden(self.kind, self.name, why)

    def warn(self, text: str) -> None:
        """Tell the client *text*, once however often the attempt is repeated."""
        if text not in self.call.warnings:
            self.call.warnings.append(text)


def delete_options(options: DeleteOptions) -> Object:
    """*options* as a `DeleteOptions` object of the API."""
    conditions = {"uid": options.uid, "resourceVersion": options.revision}
    fields = {
        "gracePeriodSeconds": options.grace_seconds,
        "propagationPolicy": options.propagation,
        "preconditions": {k: v for k, v in conditions.items() if v is not None} or None,
    }
    told = {key: value for key, value in fields.items() if value is not None}
    return {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", **told}
