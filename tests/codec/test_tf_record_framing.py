"""TFRecord files without TensorFlow: read by it as it wrote them, and its own read by us."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from pyserving.codec.tf_record import crc32c, framed, records, records_with_ends
from pyserving.errors import DataLoss

CONTENTS = [b"one", b"", b"\x00three", bytes(range(256)) * 5]


def in_file(*contents: bytes) -> bytes:
    return b"".join(map(framed, contents))


def bit_by_bit(data: bytes) -> int:
    """CRC-32C as its definition has it."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_checksum_of_the_standards_example() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 511, 512, 513, 515, 516, 1024, 3333, 512 * 129 + 7])
def test_checksum_of_any_length_is_that_of_the_definition(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == bit_by_bit(data)


def test_what_is_framed_is_read_again() -> None:
    assert list(records(io.BytesIO(in_file(*CONTENTS)))) == CONTENTS


def test_each_record_comes_with_its_end() -> None:
    file = io.BytesIO(in_file(*CONTENTS))
    assert [end for end, _ in records_with_ends(file)] == [len(in_file(*CONTENTS[: n + 1])) for n in range(4)]


@pytest.mark.parametrize("missing", [1, 3, 5, 8, 18])
def test_a_record_cut_off_is_told_after_those_before_it(missing: int) -> None:
    reading = records(io.BytesIO(in_file(b"one", b"two")[:-missing]))
    assert next(reading) == b"one"
    with pytest.raises(DataLoss, match=r"^truncated record at 19$"):
        next(reading)


@pytest.mark.parametrize("place", [0, 8, 13, 15])
def test_a_flipped_bit_is_noticed(place: int) -> None:
    damaged = bytearray(in_file(b"one"))
    damaged[place] ^= 4
    with pytest.raises(DataLoss, match=r"^corrupted record at 0"):
        next(records(io.BytesIO(bytes(damaged))))


@pytest.mark.slow
def test_tensorflow_reads_and_writes_the_same(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for content in CONTENTS:
            writer.write(content)
    assert (tmp_path / "theirs").read_bytes() == in_file(*CONTENTS)
