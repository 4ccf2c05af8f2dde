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
    words = words_of(array, nonfinite)
    return None if words is None else [word.encode() for word in words]


def words_of(array: np.ndarray, nonfinite: NonFinite) -> list[str] | None:
    """The texts as str, which costs a third less to make."""
    write = _WRITERS.get(array.dtype)
    if write is None:
        return None
    return [write(element, nonfinite) for element in array.ravel().tolist()]


def float_text(number: float, nonfinite: NonFinite = NonFinite.TOKEN) -> bytes:
    """The text of a float32."""
    return _float_word(number, nonfinite).encode()


def _float_word(number: float, nonfinite: NonFinite) -> str:
    word = f"{number:g}"
    read_back = float(word)
    if read_back != number:
        if not math.isfinite(number):
            return _non_finite_word(number, nonfinite)
        # No decimal of six digits lies so near the middle of two floats that rounding twice ends at the wrong one.
        if _FLOAT.unpack(_FLOAT.pack(read_back))[0] != number:
            word = f"{number:.9g}"
    return word if "." in word or "e" in word else _whole(word, number, nonfinite)


def double_text(number: float, nonfinite: NonFinite = NonFinite.TOKEN) -> bytes:
    """The text of a float64."""
    return _double_word(number, nonfinite).encode()


def _double_word(number: float, nonfinite: NonFinite) -> str:
    word = f"{number:g}"
    if float(word) != number:
        if not math.isfinite(number):
            return _non_finite_word(number, nonfinite)
        word = f"{number:.17g}"
    return word if "." in word or "e" in word else _whole(word, number, nonfinite)


def _whole(word: str, number: float, nonfinite: NonFinite) -> str:
    return f"{word}.0" if math.isfinite(number) else _non_finite_word(number, nonfinite)


def _non_finite_word(number: float, nonfinite: NonFinite) -> str:
    if nonfinite is NonFinite.NULL:
        return "null"
    word = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return word if nonfinite is NonFinite.TOKEN else f'"{word}"'


def _integer_word(number: int, _: NonFinite) -> str:
    return str(number)


def _bool_word(value: bool, _: NonFinite) -> str:
    return "true" if value else "false"


_INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64)
_WRITERS: dict[np.dtype, Callable[..., str]] = {
    np.dtype(np.float32): _float_word,
    np.dtype(np.float64): _double_word,
    np.dtype(np.bool_): _bool_word,
    **{np.dtype(integer): _integer_word for integer in _INTEGERS},
}
