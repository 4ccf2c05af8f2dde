"""Numbers as TensorFlow Serving prints them: in six digits if these read back as the number, else in all there are."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from struct import Struct

import numpy as np

_FLOAT = Struct("f")


class NonFinite(Enum):
    """How NaN and infinities are written."""

    TOKEN = "token"
    """`NaN`, `Infinity`, `-Infinity`, bare: TensorFlow Serving's way, which is not JSON."""
    NULL = "null"
    STRING = "string"
    """The same words in quotes."""


def texts_of(array: np.ndarray, nonfinite: NonFinite) -> list[bytes] | None:
    """Each element's text, in order; None where JSON has no form for the dtype. Strings are not numbers."""
    write = _WRITERS.get(array.dtype)
    if write is None:
        return None
    return [write(element, nonfinite) for element in array.ravel().tolist()]


def float_text(number: float, nonfinite: NonFinite = NonFinite.TOKEN) -> bytes:
    """The text of a float32."""
    text = b"%g" % number
    read_back = float(text)
    if read_back != number:
        if not math.isfinite(number):
            return non_finite_text(number, nonfinite)
        # No decimal of six digits lies so near the middle of two floats that rounding twice ends at the wrong one.
        if _FLOAT.unpack(_FLOAT.pack(read_back))[0] != number:
            text = b"%.9g" % number
    return text if b"." in text or b"e" in text else _whole(text, number, nonfinite)


def double_text(number: float, nonfinite: NonFinite = NonFinite.TOKEN) -> bytes:
    """The text of a float64."""
    text = b"%g" % number
    if float(text) != number:
        if not math.isfinite(number):
            return non_finite_text(number, nonfinite)
        text = b"%.17g" % number
    return text if b"." in text or b"e" in text else _whole(text, number, nonfinite)


def _whole(text: bytes, number: float, nonfinite: NonFinite) -> bytes:
    return text + b".0" if math.isfinite(number) else non_finite_text(number, nonfinite)


def non_finite_text(number: float, nonfinite: NonFinite) -> bytes:
    if nonfinite is NonFinite.NULL:
        return b"null"
    word = b"NaN" if math.isnan(number) else b"Infinity" if number > 0 else b"-Infinity"
    return word if nonfinite is NonFinite.TOKEN else b'"%b"' % word


def _integer_text(number: int, _: NonFinite) -> bytes:
    return b"%d" % number


def _bool_text(value: bool, _: NonFinite) -> bytes:
    return b"true" if value else b"false"


_INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64)
_WRITERS: dict[np.dtype, Callable[..., bytes]] = {
    np.dtype(np.float32): float_text,
    np.dtype(np.float64): double_text,
    np.dtype(np.bool_): _bool_text,
    **{np.dtype(integer): _integer_text for integer in _INTEGERS},
}
