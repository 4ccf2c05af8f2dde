from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.errors import Internal, ResourceExhausted, ServingError
from pyserving.transports.http2.compression import decompress, opened
from pyserving.transports.http2.eager import begin

BROKEN = [b"", b"abc", b"\x1f\x8b", gzip.compress(b"abc", mtime=0)[:-9], zlib.compress(b"abc")[:-5]]
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}


def nothing(size):
    pass


@pytest.mark.parametrize("encoding", PACK)
@given(body=st.binary(max_size=1000))
def test_it_gives_back_what_was_compressed(encoding, body):
    assert decompress(PACK[encoding](body), encoding, 1000, nothing) == body


@pytest.mark.parametrize("encoding", PACK)
def test_it_tells_of_memory_bit_by_bit(encoding):
    held = []
    assert decompress(PACK[encoding](bytes(5 << 20)), encoding, float("inf"), held.append) == bytes(5 << 20)
    assert sum(held) == 5 << 20
    assert max(held) <= 1 << 20


@pytest.mark.parametrize("encoding", PACK)
def test_a_bomb_stops_at_the_limit(encoding):
    held = []
    with pytest.raises(ResourceExhausted):
        decompress(PACK[encoding](bytes(100 << 20)), encoding, 2 << 20, held.append)
    assert sum(held) <= 2 << 20


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_is_internal(encoding, broken):
    with pytest.raises(Internal):
        decompress(broken, encoding, 1000, nothing)


def test_a_compressed_message_needs_an_encoding():
    with pytest.raises(Internal):
        decompress(b"abc", "identity", 1000, nothing)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_an_error_of_ours(data):
    try:
        body = decompress(data, "gzip", 1000, nothing)
    except ServingError:
        return
    assert len(body) <= 1000


@pytest.mark.parametrize("encoding", PACK)
async def test_a_little_message_is_opened_without_a_wait(encoding):
    held = []
    packed = PACK[encoding](b"little" * 1000)
    assert begin(opened(packed, encoding, 6000, held.append), asyncio.get_running_loop()) == b"little" * 1000
    assert held == [6000]


@pytest.mark.parametrize("encoding", PACK)
async def test_the_loop_goes_on_while_a_few_bytes_become_many(encoding):
    held, turns = [], 0
    packed = PACK[encoding](bytes(20 << 20))
    assert len(packed) < 64 << 10
    opening = asyncio.create_task(opened(packed, encoding, float("inf"), held.append))
    while not opening.done():
        await asyncio.sleep(0)
        turns += 1
    assert opening.result() == bytes(20 << 20)
    assert turns > len(held) > 10


@pytest.mark.parametrize("packed", [*BROKEN, gzip.compress(bytes(100_000))])
async def test_what_cannot_be_opened_is_an_error(packed):
    with pytest.raises(ServingError):
        await opened(packed, "gzip", 1000, nothing)
