"""SPDY/3.1 framing: what one side writes the other reads, however it is cut up."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.apiserver.http.spdy import (
    CANCEL,
    DICTIONARY,
    Data,
    Framing,
    GoneAway,
    Opened,
    Ping,
    ProtocolError,
    Reset,
)


def test_the_dictionary_is_the_one_of_the_specification() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_every_frame_is_read_as_it_was_written() -> None:
    there, here = Framing(), Framing()
    sent = b"".join(
        [
            there.open(1, {"streamType": "error", "port": "80"}),
            there.open(3, {"streamtype": "data"}, fin=True),
            there.reply(2, {"a": "b"}),
            there.data(1, b"hello"),
            there.data(1, b"", fin=True),
            there.received(1, 5),
            there.ping(7),
            there.reset(3, CANCEL),
            there.go_away(3),
        ]
    )
    assert here.feed(sent) == [
        Opened(1, {"streamtype": "error", "port": "80"}),
        Opened(3, {"streamtype": "data"}, fin=True),
        Data(1, b"hello"),
        Data(1, b"", fin=True),
        Ping(7),
        Reset(3),
        GoneAway(),
    ]


@given(st.binary(max_size=200_000), st.lists(st.integers(1, 5000), min_size=1))
def test_bytes_arrive_whole_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    sent, here, at, turn = Framing().data(5, data, fin=True), Framing(), 0, 0
    events = []
    while at < len(sent):
        size = cuts[turn % len(cuts)]
        events += here.feed(sent[at : at + size])
        at, turn = at + size, turn + 1
    received = [event for event in events if isinstance(event, Data)]
    assert b"".join(event.data for event in received) == data
    assert [event.fin for event in received] == [False] * (len(received) - 1) + [True]


@given(st.binary(max_size=300))
def test_nonsense_is_refused_and_never_breaks_the_reader(data: bytes) -> None:
    try:
        Framing().feed(data)
    except ProtocolError:
        return


@pytest.mark.parametrize(
    "frame",
    [
        bytes.fromhex("8002000100000000"),  # version 2
        bytes.fromhex("800300010000000400000001"),  # a SYN_STREAM of four bytes
        bytes.fromhex("80030001 0000000e 00000001 00000000 0000 78bb ffff"),  # no header block
        bytes.fromhex("00000001ffffffff"),  # a frame of 16 MiB
    ],
)
def test_a_broken_frame_is_named(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        Framing().feed(frame)
