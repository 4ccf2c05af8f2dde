"""Values in error sentences: the first few hundred bytes of a JSON value, in RapidJSON's printing."""

from __future__ import annotations

import math
from typing import TypeAlias

from pyserving.codec.json.document import Object, Value
from pyserving.codec.json.grisu import shortest_digits
from pyserving.codec.json.text import as_message, quoted

_MAX_BYTES = 256
"""No token is begun once there are so many."""
_PLAIN_DIGITS = 21
"""Numbers with more digits before the point, or more than five zeros behind it, are written with an exponent."""

_Waiting: TypeAlias = "bytes | tuple[bytes, Value, int]"
"""A token, or a value to be taken apart, with the bytes that go before it and the number of containers around it."""


def dump(value: Value) -> str:
    """As it stands in a sentence: objects over several lines, arrays on one; cut when long, its brackets left open.

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
        if isinstance(value, Object):
            text += b"{"
            waiting += reversed(_members(value, depth))
        elif isinstance(value, list):
            text += b"["
            waiting += reversed(_elements(value, depth))
        elif isinstance(value, float) and not math.isfinite(value):
            break
        else:
            text += _scalar(value)
    return as_message(bytes(text))


def _elements(array: list[Value], depth: int) -> list[_Waiting]:
    shown = array[:_MAX_BYTES]  # a token has a byte at least
    return [*((b", " if index else b"", value, depth + 1) for index, value in enumerate(shown)), b"]"]


def _members(container: Object, depth: int) -> list[_Waiting]:
    line = b"\n" + b"    " * (depth + 1)
    waiting: list[_Waiting] = []
    for index, (name, value) in enumerate(container.members[:_MAX_BYTES]):
        waiting += [(b"," if index else b"") + line + quoted(name), (b": ", value, depth + 1)]
    return [*waiting, (line[:-4] if container.members else b"") + b"}"]


def _scalar(value: Value) -> bytes:
    if isinstance(value, bytes):
        return quoted(value)
    if isinstance(value, float):
        return _double(value).encode()
    return b"null" if value is None else str(value).lower().encode()


def _double(number: float) -> str:
    sign = "-" if math.copysign(1, number) < 0 else ""
    if number == 0:
        return f"{sign}0.0"
    digits, power = shortest_digits(abs(number))
    return sign + _laid_out(digits, len(digits) + power)


def _laid_out(digits: str, point: int) -> str:
    """With so many digits before the point."""
    if len(digits) <= point <= _PLAIN_DIGITS:
        return digits.ljust(point, "0") + ".0"
    if 0 < point <= _PLAIN_DIGITS:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1}"
