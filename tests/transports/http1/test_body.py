from __future__ import annotations

import pytest

from pyserving.errors import ResourceExhausted
from pyserving.transports.http1.body import Body
from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.reader import RequestReader

MIB = 1 << 20


class Memory:
    """So much and no more."""

    def __init__(self, size):
        self.size = size
        self.taken = 0

    def hold(self, size):
        if self.taken + size > self.size:
            raise ResourceExhausted("no memory")
        self.taken += size


def test_memory_is_taken_as_bytes_arrive():
    memory = Memory(1 << 40)
    body = Body(1 << 30, memory.hold)
    assert memory.taken == 0
    body.add(b"x")
    assert memory.taken == body.held == 16 << 10
    body.add(bytes(MIB))
    assert memory.taken == body.held < 3 * MIB
    assert bytes(body.content()) == b"x" + bytes(MIB)


def test_no_more_memory_than_the_body_can_be():
    memory = Memory(1 << 40)
    body = Body(10, memory.hold)
    body.add(b"12345")
    assert memory.taken == 10
    space = body.space()
    assert len(space) == 5
    space[:] = b"67890"
    body.fill(5)
    assert body.content() == b"1234567890"


def test_a_body_that_is_read_to_where_it_stays_is_counted_as_it_comes():
    memory = Memory(100_000)
    body = Body(1 << 30, memory.hold)
    assert len(body.space()) == MIB // 2  # of which nothing has come
    body.fill(30_000)
    assert memory.taken == body.held == 60_000
    with pytest.raises(ResourceExhausted):
        body.fill(50_000)


def test_a_large_body_is_read_to_where_it_stays():
    reader = RequestReader(Limits())
    assert reader.space() is None
    reader.feed(b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\nabc")
    while (space := reader.space()) is not None:
        space[:] = b"x" * len(space)
        reader.filled(len(space))
    (arrival,) = reader.arrivals
    assert isinstance(arrival.body, memoryview)
    assert bytes(arrival.body) == b"abc" + b"x" * 2999997
    assert arrival.held == 3000000


@pytest.mark.parametrize("framing", [b"Content-Length: 5000000", b"Transfer-Encoding: chunked"])
def test_a_body_for_which_there_is_no_memory_is_refused(framing):
    memory = Memory(MIB)
    reader = RequestReader(Limits(), hold=memory.hold)
    chunk = b"ffffff\r\n" if b"chunked" in framing else b""
    reader.feed(b"POST /p HTTP/1.1\r\n" + framing + b"\r\n\r\n" + chunk + b"x")
    while not reader.arrivals:
        if (space := reader.space()) is None:
            reader.feed(b"x" * 65536)
        else:
            reader.filled(min(len(space), 65536))
    (arrival,) = reader.arrivals
    assert isinstance(arrival.refusal, ResourceExhausted)
    assert arrival.head.path == "/p"
    assert reader.over
