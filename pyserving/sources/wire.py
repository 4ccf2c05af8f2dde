"""Protocol buffers' wire format, walked in a file without a schema and without reading what is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class Malformed(ValueError):
    """The bytes are not what they should be: cut short, or something else altogether."""


class Field(NamedTuple):
    """One field of a message; its payload lies between the file offsets `start` and `end`."""

    number: int
    value: int
    """Of a varint field; 0 for the others."""
    start: int
    end: int


def fields(file: BinaryIO, end: int) -> Iterator[Field]:
    """The fields of the message between the file's position and `end`.

    The file may be moved about between two fields. Raises Malformed where a field is broken or runs past `end`.
    """
    position = file.tell()
    while position < end:
        file.seek(position)
        tag = read_varint(file)
        value, length = _value_and_length(file, tag & 7)
        start = file.tell()
        position = start + length
        if tag >> 3 == 0 or position > end:
            raise Malformed(f"a field at byte {start} does not fit")
        yield Field(tag >> 3, value, start, position)


def read_varint(file: BinaryIO) -> int:
    """Raises Malformed at the end of the file, and after ten bytes."""
    value = 0
    for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
        byte = file.read(1)
        if not byte:
            raise Malformed("it is cut short")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise Malformed("a number has more than ten bytes")


def _value_and_length(file: BinaryIO, wire_type: int) -> tuple[int, int]:
    if wire_type == _VARINT:
        return read_varint(file), 0
    if wire_type == _LENGTH:
        return 0, read_varint(file)
    if wire_type == _FIXED64:
        return 0, 8
    if wire_type == _FIXED32:
        return 0, 4
    raise Malformed(f"there is no wire type {wire_type}")
