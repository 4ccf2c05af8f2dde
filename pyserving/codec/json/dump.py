"""Values in error sentences: the first few hundred bytes of a JSON value, in RapidJSON's printing."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TypeAlias

from pyserving.codec.json.document import Object, Value
from pyserving.codec.json.text import as_message, quoted

_MAX_BYTES = 256
"""No token is begun once there are so many."""
_PLAIN_DIGITS = 21
"""Numbers with more digits before the point, or more than five zeros behind it, are written with an exponent."""

_Waiting: TypeAlias = "bytes | tuple[bytes, Value, int]"
"""A token, or a value to be taken apart, with the bytes that go before it and the number of containers around it."""


def dump(value: Value) -> str:
    """As it stands in a sentence: objects over several lines, arrays on one; cut, with its brackets left open, when long.

    NaN and infinities, for which RapidJSON has no text, end it.
    """
    text = bytearray()
    waiting: list[_Waiting] = [(b"", value, 0)]  # the next is the last
    while waiting and len(text) < _MAX_BYTES:
        item = waiting.pop()
        if isinstance(item, bytes):
            text += item
            continue
        before, value, depth = item
        text += before
        if isinstance(value, list):
            text += b"{" if isinstance(value, Object) else b"["
            waiting += reversed(_members(value, depth) if isinstance(value, Object) else _elements(value, depth))
        elif isinstance(value, float) and not math.isfinite(value):
            break
        else:
            text += _scalar(value)
    return as_message(bytes(text))


def _elements(array: list[Value], depth: int) -> list[_Waiting]:
    shown = array[:_MAX_BYTES]  # a token has a byte at least
    return [*((b", " if index else b"", value, depth + 1) for index, value in enumerate(shown)), b"]"]


def _members(members: Object, depth: int) -> list[_Waiting]:
    line = b"\n" + b"    " * (depth + 1)
    waiting: list[_Waiting] = []
    for index, (name, value) in enumerate(members[:_MAX_BYTES]):
        waiting += [(b"," if index else b"") + line + quoted(name), (b": ", value, depth + 1)]
    return [*waiting, (line[:-4] if members else b"") + b"}"]


def _scalar(value: Value) -> bytes:
    if isinstance(value, bytes):
        return quoted(value)
    if isinstance(value, float):
        return _shortest(value).encode()
    return b"null" if value is None else str(value).lower().encode()


def _shortest(number: float) -> str:
    """The shortest digits that read back as the number, laid out as RapidJSON's dtoa does."""
    sign, digit_values, _ = Decimal(repr(number)).as_tuple()
    digits = "".join(map(str, digit_values)).lstrip("0").rstrip("0")
    if not digits:
        return "-0.0" if sign else "0.0"
    point = Decimal(repr(number)).adjusted() + 1  # so many digits stand before it
    return ("-" if sign else "") + _laid_out(digits, point)


def _laid_out(digits: str, point: int) -> str:
    if len(digits) <= point <= _PLAIN_DIGITS:
        return digits.ljust(point, "0") + ".0"
    if 0 < point <= _PLAIN_DIGITS:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1}"
