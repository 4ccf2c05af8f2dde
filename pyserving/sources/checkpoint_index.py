"""Reads `variables.index`, the table of contents of a TensorFlow checkpoint, for the sizes its shards must have.

The file is a sorted string table as LevelDB writes them (tensorflow/core/lib/io/format.cc); its values are
BundleHeaderProto under the empty key and BundleEntryProto under every other (tensor_bundle.proto).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from pyserving.sources.storage import LOCAL, Storage
from pyserving.sources.wire import Malformed, fields, read_varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
"""After each block: how it is compressed (one byte) and a checksum (four)."""
_NUM_SHARDS = 1
_SHARD_ID, _OFFSET, _SIZE = 3, 4, 5
_MAX_SHARDS = 99_999
"""What fits the five digits of a shard's name."""


def shard_sizes(path: str, storage: Storage = LOCAL) -> dict[str, int]:
    """Each shard's file name ending (`data-00000-of-00001`) and the least number of bytes it must have.

    Raises Malformed when the index is not whole, OSError when it cannot be read. Empty when the table is compressed,
    which TensorFlow's checkpoints never are.
    """
    with storage.open(path) as file:
        data = file.read()
    if len(data) < _FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise Malformed("it is cut short or no checkpoint index")
    footer = io.BytesIO(data[-_FOOTER_BYTES:])
    _handle(footer)  # of the meta-index, which checkpoints do not use
    num_shards = 0
    needed: dict[int, int] = {}
    last_key = None
    for _, block_handle in _entries(data, *_handle(footer)):
        for key, value in _entries(data, *_handle(io.BytesIO(block_handle))):
            if last_key is not None and key <= last_key:
                raise Malformed("its keys are out of order")
            last_key = key
            numbers = _numbers(value)
            if key:
                shard = numbers.get(_SHARD_ID, 0)
                end = numbers.get(_OFFSET, 0) + numbers.get(_SIZE, 0)
                needed[shard] = max(end, needed.get(shard, 0))
            else:
                num_shards = numbers.get(_NUM_SHARDS, 0)
    if num_shards == 0:
        return {}  # the header is in a compressed block
    if num_shards > _MAX_SHARDS or max(needed, default=0) >= num_shards:
        raise Malformed("it names a shard beyond the last")
    return {f"data-{shard:05d}-of-{num_shards:05d}": needed.get(shard, 0) for shard in range(num_shards)}


def _handle(file: BinaryIO) -> tuple[int, int]:
    """A BlockHandle: offset and size of a block without its trailer."""
    return read_varint(file), read_varint(file)


def _entries(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block; each key is kept as what it shares with the one before and what it adds."""
    block = data[offset : offset + size + _TRAILER_BYTES]
    if len(block) < size + _TRAILER_BYTES or size < 4:
        raise Malformed("a block lies outside the file")
    if block[size] != 0:
        return
    (num_restarts,) = struct.unpack_from("<I", block, size - 4)
    end = size - 4 * (1 + num_restarts)
    if end < 0:
        raise Malformed("a block is broken")
    file = io.BytesIO(block)
    key = b""
    while file.tell() < end:
        shared, added, length = read_varint(file), read_varint(file), read_varint(file)
        if shared > len(key) or file.tell() + added + length > end:
            raise Malformed("a block is broken")
        key = key[:shared] + file.read(added)
        yield key, file.read(length)


def _numbers(message: bytes) -> dict[int, int]:
    """Field number to value; of fields that are not plain numbers, 0."""
    return {field.number: field.value for field in fields(io.BytesIO(message), len(message))}
