"""Reading logs in the CRI format: tails, times, limits, rotation."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.agent.logs import Formatter, LogFile, LogQuery, container_id, parse_entry, read
from sampan.api.errors import BadRequest
from sampan.api.objects import Object


def stamp(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}.000000000Z"


def entry(second: int, text: str, *, tag: str = "F", stream: str = "stdout") -> str:
    return f"{stamp(second)} {stream} {tag} {text}\n"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(lines))
    return path


async def shown(path: Path, **query: object) -> str:
    file = LogFile(path)
    try:
        blocks = [block async for block in read(file, LogQuery(**query))]  # type: ignore[arg-type]
    finally:
        file.close()
    return b"".join(blocks).decode()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "0.log"


async def test_lines_of_both_streams_come_in_order(log: Path) -> None:
    write(log, entry(1, "one"), entry(2, "two", stream="stderr"), entry(3, "three"))
    assert await shown(log) == "one\ntwo\nthree\n"


async def test_a_long_line_is_put_together_and_stamped_once(log: Path) -> None:
    write(log, entry(1, "ab", tag="P"), entry(1, "cd", tag="P"), entry(2, "ef"), entry(3, "next"))
    assert await shown(log) == "abcdef\nnext\n"
    assert await shown(log, timestamps=True) == f"{stamp(1)} abcdef\n{stamp(3)} next\n"


async def test_since_leaves_out_what_is_older(log: Path) -> None:
    write(log, *(entry(second, str(second)) for second in range(5)))
    since = datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)
    assert await shown(log, since=since) == "3\n4\n"


async def test_the_limit_cuts_within_a_line(log: Path) -> None:
    write(log, entry(1, "hello"), entry(2, "world"))
    assert await shown(log, limit=8) == "hello\nwo"


async def test_a_log_that_is_not_there_is_empty(log: Path) -> None:
    assert await shown(log) == ""
    assert await shown(log, tail=5) == ""


@given(total=st.integers(0, 400), tail=st.integers(0, 450), parts=st.integers(1, 4))
async def test_a_tail_is_the_end_of_the_whole_log_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, total: int, tail: int, parts: int
) -> None:
    log = tmp_path_factory.mktemp("logs") / "0.log"
    lines = [entry(1, f"{number} " + "x" * (number * 7 % 900)) for number in range(total)]
    size = max(total // parts, 1)
    pieces = [lines[start : start + size] for start in range(0, total, size)] or [[]]
    for index, piece in enumerate(pieces[:-1]):
        write(log.with_name(f"0.log.2026010{index}-000000"), *piece)
    write(log, *pieces[-1])
    expected = [line.split(" ", 3)[3] for line in lines[max(total - tail, 0) :]]
    assert await shown(log, tail=tail) == "".join(expected)


def test_reading_goes_on_through_a_rotation(log: Path) -> None:
    write(log, entry(1, "old"))
    file = LogFile(log)
    assert list(file.start(None)) == [entry(1, "old").rstrip("\n").encode()]
    with log.open("a") as still_open:
        log.rename(log.with_name("0.log.20260101-000000"))
        still_open.write(entry(2, "late"))
    assert list(file.more()) == [entry(2, "late").rstrip("\n").encode()]
    write(log, entry(3, "new"))
    assert list(file.more()) == [entry(3, "new").rstrip("\n").encode()]
    file.close()


def test_half_a_line_waits_for_its_other_half(log: Path) -> None:
    whole = entry(1, "whole")
    log.write_text(whole[:20])
    file = LogFile(log)
    assert list(file.start(None)) == []
    with log.open("a") as more:
        more.write(whole[20:])
    assert list(file.more()) == [whole.rstrip("\n").encode()]
    file.close()


def test_what_is_not_the_format_is_skipped() -> None:
    formatter = Formatter(LogQuery())
    assert parse_entry(b"nonsense") is None
    assert formatter.write(b"nonsense") == b""
    assert formatter.write(b"t stdout F text") == b"text\n"


def status(**state: Object) -> Object:
    entry = {"name": "main", "containerID": "containerd://now", **state}
    return {
        "metadata": {"name": "web"},
        "spec": {"nodeName": "n"},
        "status": {"containerStatuses": [entry]},
    }


ENDED = {"terminated": {"containerID": "containerd://before", "exitCode": 1}}
RUNNING: Object = {"running": {}}


def test_a_running_container_is_meant_and_its_predecessor_on_request() -> None:
    pod = status(state=RUNNING, lastState=ENDED)
    assert container_id(pod, "main", previous=False) == "containerd://now"
    assert container_id(pod, "main", previous=True) == "containerd://before"


def test_one_that_waits_for_its_restart_shows_its_last_run() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert container_id(status(state=waiting, lastState=ENDED), "main", previous=False) == (
        "containerd://before"
    )


@pytest.mark.parametrize(
    ("pod", "previous", "said"),
    [
        (status(state={"waiting": {"reason": "ErrImagePull"}}), False, "image can't be pulled"),
        (
            status(state=RUNNING),
            True,
            'previous terminated container "main" in pod "web" not found',
        ),
        (
            {"metadata": {"name": "web"}, "spec": {"nodeName": "n"}},
            False,
            "is waiting to start: ContainerCreating",
        ),
    ],
)
def test_what_has_no_log_is_refused_in_a_kubelets_words(
    pod: Object, *, previous: bool, said: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        container_id(pod, "main", previous=previous)
    assert said in refused.value.message


async def test_an_empty_file_has_no_last_lines(log: Path) -> None:
    log.touch()
    assert await shown(log, tail=3) == ""
