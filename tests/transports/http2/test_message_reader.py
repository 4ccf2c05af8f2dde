from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.errors import Internal, ResourceExhausted
from pyserving.transports.http2.message_reader import MessageReader


def message(body: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(body).to_bytes(4, "big") + body


class Held:
    def __init__(self, limit: float = float("inf")) -> None:
        self.bytes = 0
        self._limit = limit

    def __call__(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self._limit:
            raise ResourceExhausted("too much")


def reader(max_bytes=float("inf"), hold=None, data_offset=lambda head, size: None):
    return MessageReader(max_bytes, hold or Held(), data_offset)


def address(body: memoryview) -> int:
    return np.frombuffer(body, np.uint8).__array_interface__["data"][0]


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 30)))
def test_messages_come_out_however_they_are_cut(bodies, cuts):
    stream, under_test, came = b"".join(map(message, bodies)), reader(), []
    for cut in [*cuts, len(stream) + 1]:
        came += under_test.feed(memoryview(stream[:cut]))
        stream = stream[cut:]
    assert [each.body for each in came] == bodies
    assert under_test.is_between_messages


@pytest.mark.parametrize("size", [16 << 10, 100_000, 3 << 20])
@pytest.mark.parametrize("offset", [0, 1, 63, 77])
def test_the_data_of_a_large_message_lies_on_a_64_byte_boundary(size, offset):
    body = np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes()
    under_test, came = reader(data_offset=lambda head, size: offset), []
    for start in range(0, size + 5, 50_001):
        came += under_test.feed(memoryview(message(body)[start : start + 50_001]))
    (only,) = came
    assert only.body == body
    assert (address(only.body) + offset) % 64 == 0


def test_a_message_that_has_begun_can_be_read_in_place():
    body = np.random.default_rng(1).integers(0, 256, 100_000, np.uint8).tobytes()
    under_test = reader()
    assert not under_test.room
    assert not under_test.feed(memoryview(message(body)[:1_005]))
    for piece in (body[1_000:40_000], body[40_000:]):
        under_test.room[: len(piece)] = piece
        only = under_test.fill(len(piece))
    assert only is not None
    assert only.body == body
    assert (under_test.is_between_messages, len(under_test.room)) == (True, 0)


def test_there_is_room_for_no_more_than_has_been_taken():
    under_test = reader()
    under_test.feed(memoryview(message(bytes(64 << 20))[:1_005]))
    assert 0 < len(under_test.room) < 2 << 20
    under_test.fill(len(under_test.room))
    assert not under_test.room
    under_test.feed(memoryview(bytes(10)))
    assert 0 < len(under_test.room) < 4 << 20


def test_whoever_places_the_data_sees_the_beginning_of_the_message():
    seen = []
    under_test = reader(data_offset=lambda head, size: seen.append((bytes(head[:5]), size)))
    under_test.feed(memoryview(message(b"beginning" + bytes(20_000))[:5000]))
    assert seen == [(b"begin", 20_009)]


def test_a_small_message_is_bytes():
    (only,) = reader().feed(memoryview(message(b"small")))
    assert isinstance(only.body, bytes)


def test_a_claim_of_4_gib_takes_no_memory():
    held = Held()
    tracemalloc.start()
    try:
        reader(hold=held).feed(memoryview(b"\0\xff\xff\xff\xff" + bytes(1000)))
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert held.bytes <= 1 << 14


@pytest.mark.parametrize("in_place", [False, True])
def test_what_is_held_follows_what_has_come_and_is_as_much_as_the_message_in_the_end(in_place):
    held, size, came = Held(), 5 << 20, 10
    under_test = reader(hold=held)
    under_test.feed(memoryview(message(bytes(size))[: 5 + came]))
    while came < size:
        assert came <= held.bytes <= max(1 << 14, 2 * came)
        piece = min(10_000, size - came)
        if in_place and under_test.room:
            piece = min(piece, len(under_test.room))
            under_test.fill(piece)
        else:
            under_test.feed(memoryview(bytes(piece)))
        came += piece
    assert held.bytes == size


def test_it_stops_where_holding_is_refused_for_what_was_read_in_place():
    under_test = reader(hold=Held(1 << 16))
    under_test.feed(memoryview(message(bytes(1 << 17))[:1_005]))
    with pytest.raises(ResourceExhausted):
        under_test.fill(1 << 16)


def test_it_stops_where_holding_is_refused():
    with pytest.raises(ResourceExhausted):
        reader(hold=Held(1 << 16)).feed(memoryview(message(bytes(1 << 17))))


def test_a_length_over_the_limit_is_refused_before_the_body_comes():
    with pytest.raises(ResourceExhausted, match=r"Received message larger than max \(11 vs\. 10\)"):
        reader(max_bytes=10).feed(memoryview(message(bytes(11))[:5]))


def test_it_tells_what_is_compressed():
    assert [each.is_compressed for each in reader().feed(memoryview(message(b"", 1) + message(b"", 0)))] == [
        True,
        False,
    ]


def test_other_flags_are_refused():
    with pytest.raises(Internal, match="begins with 2"):
        reader().feed(memoryview(message(b"", 2)))
