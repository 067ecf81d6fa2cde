"""Old Events go; young ones and repeated ones stay."""

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.apiserver import expiry
from tests.apiserver.support import Api


def event(name: str, **fields: object) -> Object:
    about = {"kind": "Pod", "name": "web", "namespace": "default"}
    return {"metadata": {"name": name}, "involvedObject": about, **fields}


async def test_an_event_is_forgotten_an_hour_after_it_was_last_seen(api: Api) -> None:
    await api.create(kinds.EVENTS, event("old"))
    await api.create(kinds.EVENTS, event("repeated", lastTimestamp="2026-01-01T00:30:00Z"))
    api.clock.pass_(3601)
    for number in range(expiry.EVERY - 2):
        await api.create(kinds.EVENTS, event(f"new{number}"))
    names = await api.names(kinds.EVENTS)
    assert "old" not in names
    assert "repeated" in names
    assert len(names) == expiry.EVERY - 1
