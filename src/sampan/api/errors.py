"""Every way a request can fail, the same on both sides of the wire.

An error *is* Kubernetes' `Status`: its class gives the HTTP code and the reason, and
`error_from_status` turns a received Status back into the class that raised it.

ApiError
├── BadRequest            400  the request itself makes no sense
├── Unauthorized          401  we do not know who you are
├── Forbidden             403  we know, and you may not
├── NotFound              404  the object, or the kind, is not there
├── MethodNotAllowed      405
├── NotAcceptable         406
├── AlreadyExists         409  a create lost a race
├── Conflict              409  an update was based on an old revision
├── Gone                  410
│   └── Expired           410  that much history is gone; list again
├── RequestEntityTooLarge 413
├── UnsupportedMediaType  415
├── Invalid               422  the object breaks a rule; retrying cannot help
├── TooManyRequests       429
├── InternalError         500
├── ServiceUnavailable    503
└── Timeout               504
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import Struct

Object = dict[str, Any]


class Cause(Struct, frozen=True, omit_defaults=True):
    """One broken rule: *reason* is a Kubernetes cause type such as FieldValueRequired."""

    reason: str
    message: str
    field: str = ""


class ApiError(Exception):
    code: ClassVar[int] = 500
    retryable: ClassVar[bool] = True

    def __init__(
        self,
        message: str = "",
        *,
        causes: Sequence[Cause] = (),
        details: Object | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message or type(self).__name__)
        self.message = message or type(self).__name__
        self.causes = tuple(causes)
        self.details = details or {}
        self.retry_after = retry_after

    @property
    def reason(self) -> str:
        return type(self).__name__

    def status(self) -> Object:
        """Return this error as a Kubernetes `Status` object."""
        details = dict(self.details)
        if self.causes:
            details["causes"] = [
                {"reason": c.reason, "message": c.message, "field": c.field} for c in self.causes
            ]
        if self.retry_after is not None:
            details["retryAfterSeconds"] = self.retry_after
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if details:
            status["details"] = details
        return status


class BadRequest(ApiError):
    code = 400
    retryable = False


class Unauthorized(ApiError):
    code = 401
    retryable = False


class Forbidden(ApiError):
    code = 403
    retryable = False


class NotFound(ApiError):
    code = 404


class MethodNotAllowed(ApiError):
    code = 405
    retryable = False


class NotAcceptable(ApiError):
    code = 406
    retryable = False


class AlreadyExists(ApiError):
    code = 409


class Conflict(ApiError):
    code = 409


class Gone(ApiError):
    code = 410


class Expired(Gone):
    pass


class RequestEntityTooLarge(ApiError):
    code = 413
    retryable = False


class UnsupportedMediaType(ApiError):
    code = 415
    retryable = False


class Invalid(ApiError):
    code = 422
    retryable = False


class TooManyRequests(ApiError):
    code = 429


class InternalError(ApiError):
    pass


class ServiceUnavailable(ApiError):
    code = 503


class Timeout(ApiError):
    code = 504


_CLASSES: tuple[type[ApiError], ...] = (
    BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable,
    AlreadyExists, Conflict, Gone, Expired, RequestEntityTooLarge, UnsupportedMediaType,
    Invalid, TooManyRequests, InternalError, ServiceUnavailable, Timeout,
)  # fmt: skip
_BY_REASON = {cls.__name__: cls for cls in _CLASSES}
_BY_CODE = {cls.code: cls for cls in reversed(_CLASSES)}


def error_from_status(status: Object, code: int = 500) -> ApiError:
    """Turn a received `Status` (or just an HTTP *code*) into the error that it tells of."""
    code = status.get("code") or code
    cls = _BY_REASON.get(status.get("reason") or "") or _BY_CODE.get(code, InternalError)
    details = dict(status.get("details") or {})
    causes = tuple(
        Cause(c.get("reason", ""), c.get("message", ""), c.get("field", ""))
        for c in details.pop("causes", None) or ()
    )
    retry_after = details.pop("retryAfterSeconds", None)
    message = status.get("message") or f"HTTP {code}"
    return cls(message, causes=causes, details=details, retry_after=retry_after)
