"""Whether a `model.tflite` is whole: a flatbuffer, followed from table to table without the library that reads it.

A flatbuffer is written from its end to its beginning, so what a copy has not brought yet are the parts that were made
first: everything the model refers to has to lie within the file. The layouts are those of flatbuffers and of TensorFlow
Lite's schema.fbs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from pyserving.sources.storage import LOCAL, Storage
from pyserving.sources.wire import Malformed

_IDENTIFIER = b"TFL3"
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Table:
    """What of a table's fields is looked at, by their numbers in the schema. What is not named is passed over."""

    vectors: Mapping[int, int]
    """Strings and vectors of plain values, to the size of an element in bytes."""
    tables: Mapping[int, _Table]
    """Vectors of tables."""
    blob: tuple[int, int] | None = None
    """The fields that hold offset and size of a part behind the flatbuffer."""


_OPERATOR_CODE = _Table({1: 1}, {})
_TENSOR = _Table({0: 4, 3: 1, 7: 4}, {})
_OPERATOR = _Table({1: 4, 2: 4, 5: 1, 8: 4}, {}, blob=(9, 10))
_SUBGRAPH = _Table({1: 4, 2: 4, 4: 1}, {0: _TENSOR, 3: _OPERATOR})
_BUFFER = _Table({0: 1}, {}, blob=(1, 2))
_METADATA = _Table({0: 1}, {})
_TENSOR_MAP = _Table({0: 1}, {})
_SIGNATURE_DEF = _Table({2: 1}, {0: _TENSOR_MAP, 1: _TENSOR_MAP})
_SUBGRAPHS = 2
_MODEL = _Table(
    {3: 1, 5: 4},
    {1: _OPERATOR_CODE, _SUBGRAPHS: _SUBGRAPH, 4: _BUFFER, 6: _METADATA, 7: _SIGNATURE_DEF},
)


def check_tflite(path: str, storage: Storage = LOCAL) -> None:
    """Raises Malformed when the file is not whole, OSError when it cannot be read."""
    with storage.open(path) as file:
        buffer = _Flatbuffer(file)
        if buffer.read(4, 4) != _IDENTIFIER:
            raise Malformed("it has no TensorFlow Lite identifier")
        model = buffer.follow(0)
        buffer.check_table(model, _MODEL)
        if not buffer.has_elements(model, _SUBGRAPHS):
            raise Malformed("it holds no graph")


class _Flatbuffer:
    """Positions are bytes from the beginning of the file; whatever leads out of it raises Malformed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = file.seek(0, os.SEEK_END)
        self._checked: set[int] = set()

    def read(self, position: int, size: int) -> bytes:
        self._check(position, size)
        self._file.seek(position)
        data = self._file.read(size)
        if len(data) < size:  # it has become shorter meanwhile
            raise Malformed("it is cut short")
        return data

    def follow(self, position: int) -> int:
        """Where the offset at `position` leads."""
        return position + self._uint32(position)

    def check_table(self, position: int, table: _Table) -> None:
        """The table at `position`, and all that it refers to. What two tables refer to is looked at once."""
        if position in self._checked:
            return
        self._checked.add(position)
        fields = self._fields(position)
        for number, size in table.vectors.items():
            if number in fields:
                self._check_vector(self.follow(fields[number]), size)
        for number, inner in table.tables.items():
            if number in fields:
                for element in self._elements(self.follow(fields[number])):
                    self.check_table(element, inner)
        if table.blob is not None and all(number in fields for number in table.blob):
            offset, size = (self._uint64(fields[number]) for number in table.blob)
            self._check(offset, size)

    def has_elements(self, table: int, number: int) -> bool:
        """Whether a table has a vector that is not empty for that field."""
        field = self._fields(table).get(number)
        return field is not None and self._uint32(self.follow(field)) > 0

    def _fields(self, table: int) -> dict[int, int]:
        """The fields that a table has: number to position."""
        (back_to_layout,) = struct.unpack("<i", self.read(table, 4))
        layout = table - back_to_layout
        layout_size, table_size = struct.unpack("<HH", self.read(layout, 4))
        self._check(table, table_size)
        if layout_size < 4 or layout_size % 2:
            raise Malformed("a table is broken")
        offsets = struct.unpack(f"<{layout_size // 2 - 2}H", self.read(layout + 4, layout_size - 4))
        return {number: table + offset for number, offset in enumerate(offsets) if offset}

    def _elements(self, vector: int) -> Iterator[int]:
        """Positions of the tables in a vector; none when it was looked at before."""
        if vector in self._checked:
            return
        self._checked.add(vector)
        length = self._check_vector(vector, 4)
        first = vector + _LENGTH_BYTES
        offsets = struct.unpack(f"<{length}I", self.read(first, 4 * length))
        for index, offset in enumerate(offsets):
            yield first + 4 * index + offset

    def _check_vector(self, vector: int, element_size: int) -> int:
        """How many elements it has."""
        length = self._uint32(vector)
        self._check(vector + _LENGTH_BYTES, length * element_size)
        return length

    def _uint32(self, position: int) -> int:
        return int.from_bytes(self.read(position, 4), "little")

    def _uint64(self, position: int) -> int:
        return int.from_bytes(self.read(position, 8), "little")

    def _check(self, position: int, size: int) -> None:
        if position < 0 or position + size > self._end:
            raise Malformed(f"{size} bytes at {position} lie outside of its {self._end}")
