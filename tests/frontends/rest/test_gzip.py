from __future__ import annotations

import gzip
import tracemalloc

import pytest

from pyserving.frontends.rest.compression import (
    MAX_UNPACKED_BYTES,
    is_acceptable,
    is_packed,
    pack,
    unpack,
    unpacked_size,
)

TEXT = b'{"instances": [1.0, 2.0]}' * 100
PACKED = gzip.compress(TEXT, mtime=0)  # the same in every process, as names of tests must be


def unpacked(body):
    return unpack(body, unpacked_size(body))


@pytest.mark.parametrize(
    ("content_encoding", "expected"),
    [("gzip", True), ("x-gzip", True), ("my_gzip", True), ("deflate, gzip", True), ("GZIP", False), ("br", False)],
)
def test_gzip_is_whatever_holds_the_word(content_encoding, expected):
    assert is_packed(content_encoding) is expected


@pytest.mark.parametrize("level", [0, 1, 9])
def test_it_unpacks(level):
    packed = gzip.compress(TEXT, level)
    assert unpacked_size(packed) == len(TEXT)
    assert unpacked(packed) == TEXT
    assert unpacked(memoryview(packed)) == TEXT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"plain",
        TEXT,
        PACKED[:-1],
        PACKED[:-9] + PACKED[-8:],
        PACKED + b"x",
        PACKED[:-4] + bytes(4),
        PACKED[:-4] + (len(TEXT) - 1).to_bytes(4, "little"),
        PACKED[:-4] + (len(TEXT) + 1).to_bytes(4, "little"),
        PACKED[:-8] + b"1234" + PACKED[-4:],
    ],
)
def test_what_cannot_be_unpacked_is_empty(body):
    assert unpacked(body) == b""


def test_the_largest_body_is_100_mib():
    packed = gzip.compress(bytes(MAX_UNPACKED_BYTES), 1)
    assert unpacked_size(packed) == MAX_UNPACKED_BYTES
    assert unpacked_size(gzip.compress(bytes(MAX_UNPACKED_BYTES + 1), 1)) == 0


@pytest.mark.proves("difference: A body compressed with gzip that is a lie")
def test_a_bomb_that_lies_about_its_size_takes_no_more_than_it_claims():
    bomb = gzip.compress(bytes(50 << 20), 1)
    lie = bomb[:-4] + (1000).to_bytes(4, "little")
    tracemalloc.start()
    try:
        assert unpacked(lie) == b""
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nobody_reserves_more_than_a_body_can_hold():
    claim = gzip.compress(b"")[:-4] + (100 << 20).to_bytes(4, "little")
    assert unpacked_size(claim) == 0
    zeros = gzip.compress(bytes(1 << 20))
    assert unpacked_size(zeros) == 1 << 20


def test_what_it_packs_unpacks():
    assert gzip.decompress(pack(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5, br", True),
        ("*", True),
        ("", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("deflate", False),
    ],
)
def test_it_knows_who_takes_gzip(accept_encoding, expected):
    assert is_acceptable(accept_encoding) is expected
