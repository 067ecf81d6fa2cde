import pytest

from sampan.api import errors
from sampan.api.errors import ApiError, Cause, Expired, Invalid, TooManyRequests, error_from_status

CLASSES = [
    cls for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, ApiError) and cls is not ApiError
]  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_survives_the_wire(cls: type[ApiError]) -> None:
    sent = cls(
        "no", causes=[Cause("FieldValueRequired", "Required value", "spec.x")], retry_after=3
    )
    received = error_from_status(sent.status())
    assert type(received) is cls
    assert (received.message, received.causes, received.retry_after) == ("no", sent.causes, 3)
    assert received.status() == sent.status()


def test_a_bare_code_still_becomes_the_right_class() -> None:
    assert type(error_from_status({}, 422)) is Invalid
    assert type(error_from_status({"reason": "Unheard", "code": 429})) is TooManyRequests
    assert type(error_from_status({}, 599)) is errors.InternalError


def test_expired_history_is_told_from_what_is_gone_for_ever() -> None:
    assert Expired("too old").status()["reason"] == "Expired"
    assert Expired("too old").code == errors.Gone.code == 410
