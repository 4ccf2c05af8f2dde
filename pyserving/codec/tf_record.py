"""TFRecord framing without TensorFlow: a record's length and its bytes, each followed by a masked CRC-32C."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO

import numpy as np

from pyserving.errors import DataLoss

_HEAD = struct.Struct("<QI")
"""Length of the record, and the checksum of these eight bytes."""
_FOOT = struct.Struct("<I")
FRAME_BYTES = _HEAD.size + _FOOT.size
"""What a record takes in a file besides its own bytes."""

_POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed
_BLOCK = 512
"""Bytes whose part in a checksum is looked up at a stroke."""
_ALL_ONES = 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    """The record as it stands in a file."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _FOOT.pack(_masked_crc32c(length)), record, _FOOT.pack(_masked_crc32c(record))))


def records(file: BinaryIO) -> Iterator[bytes]:
    """The records from here to the end of the file; DataLoss at the first that is damaged or cut off."""
    return (record for _, record in records_with_ends(file))


def records_with_ends(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each record, after the place in the file where it ends."""
    at = file.tell()
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise DataLoss(f"truncated record at {at}")
        length, checksum = _HEAD.unpack(head)
        if _masked_crc32c(head[:8]) != checksum:
            raise DataLoss(f"corrupted record at {at} (Is this even a TFRecord file?)")
        body = file.read(length + _FOOT.size)
        if len(body) < length + _FOOT.size:
            raise DataLoss(f"truncated record at {at}")
        record = body[:length]
        if _masked_crc32c(record) != _FOOT.unpack_from(body, length)[0]:
            raise DataLoss(f"corrupted record at {at}")
        at += FRAME_BYTES + length
        yield at, record


def _masked_crc32c(data: bytes) -> int:
    """As crc32c.h masks what is stored: a checksum of data that holds checksums would be a poor one."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ALL_ONES


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum.

    It is linear: what a block adds to it is the exclusive or of what each of its bytes adds at its place, which
    NumPy looks up for many blocks in one go.
    """
    if len(data) < 64:
        return _bytewise(data)
    array = np.frombuffer(data, np.uint8)
    cut = array.size % _BLOCK
    state = _first_block(array[: cut or _BLOCK])
    blocks = array[cut or _BLOCK :].reshape(-1, _BLOCK)
    for some in (blocks[start : start + 128] for start in range(0, len(blocks), 128)):  # what caches hold
        for part in np.bitwise_xor.reduce(_looked_up(some), axis=1).tolist():
            state = part ^ _after_block(state)
    return state ^ _ALL_ONES


def _first_block(array: np.ndarray) -> int:
    """The state after up to a block of bytes, before which all its bits are set."""
    if array.size < 4:
        return _bytewise(array.tobytes()) ^ _ALL_ONES
    block = np.zeros(_BLOCK, np.uint8)
    block[_BLOCK - array.size :] = array  # zeros leave a state of zero as it is
    block[_BLOCK - array.size :][:4] ^= 0xFF
    return int(np.bitwise_xor.reduce(_looked_up(block)))


def _looked_up(blocks: np.ndarray) -> np.ndarray:
    """uint32, of the same shape: what each byte of some blocks adds."""
    table, places = _block_table()
    looked_up: np.ndarray = table.take(places + blocks)
    return looked_up


def _after_block(state: int) -> int:
    """What is left of a state after a block of zeros."""
    a, b, c, d = _state_tables()
    return a[state & 0xFF] ^ b[state >> 8 & 0xFF] ^ c[state >> 16 & 0xFF] ^ d[state >> 24]


def _bytewise(data: bytes) -> int:
    table = _byte_table()
    state = _ALL_ONES
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ _ALL_ONES


@lru_cache(maxsize=1)
def _byte_table() -> list[int]:
    """What a byte makes of a state of zero."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return [int(entry) for entry in table]


@lru_cache(maxsize=1)
def _block_table() -> tuple[np.ndarray, np.ndarray]:
    """uint32, by place in a block and by byte: what it adds to the state after the block; where each place begins."""
    by_byte = np.array(_byte_table(), np.uint32)
    table = np.empty((_BLOCK, 256), np.uint32)
    table[-1] = by_byte
    for place in range(_BLOCK - 2, -1, -1):
        following = table[place + 1]
        table[place] = by_byte[following & 0xFF] ^ following >> 8
    return table.ravel(), np.arange(_BLOCK) * 256


@lru_cache(maxsize=1)
def _state_tables() -> list[list[int]]:
    """What each byte of a state adds, as if it were one of a block's first four."""
    table, _ = _block_table()
    return [[int(entry) for entry in row] for row in table.reshape(_BLOCK, 256)[:4]]
