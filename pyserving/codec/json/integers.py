"""Arrays of integers and booleans as text, all elements at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyserving.codec.json.digits import CHUNK, eight_digits, write_signs
from pyserving.codec.json.texts import WORD_BYTES, Texts, as_word

_TEXT_DIGITS = 2 * WORD_BYTES
_MAX_MAGNITUDE = 10**_TEXT_DIGITS - 1
_POWERS = np.array([10**power for power in range(1, _TEXT_DIGITS)], np.uint64)
_WORD_BITS = np.uint64(64)
_EIGHT_DIGITS = np.uint64(10**WORD_BYTES)
_TYPES = frozenset(map(np.dtype, (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64)))


def integer_texts(array: np.ndarray) -> Iterator[Texts] | None:
    """In parts. None for another dtype, and for integers of more than sixteen digits."""
    numbers = array.ravel()
    if array.dtype == np.bool_:
        write = _bool_texts
    elif array.dtype in _TYPES and -_MAX_MAGNITUDE <= int(numbers.min()) <= int(numbers.max()) <= _MAX_MAGNITUDE:
        write = _integer_texts
    else:
        return None
    return (write(numbers[start : start + CHUNK]) for start in range(0, len(numbers), CHUNK))


def _integer_texts(numbers: np.ndarray) -> Texts:
    if numbers.dtype.kind == "u":
        return _magnitude_texts(numbers.astype(np.uint64))
    wide = numbers.astype(np.int64)
    texts = _magnitude_texts(np.abs(wide).astype(np.uint64))
    write_signs(wide < 0, texts)
    return texts


def _bool_texts(numbers: np.ndarray) -> Texts:
    words = np.where(numbers, np.uint64(as_word(b"true")), np.uint64(as_word(b"false")))
    return Texts([words], np.where(numbers, 4, 5))


def _magnitude_texts(numbers: np.ndarray) -> Texts:
    """Sixteen digits with zeros before them, moved down over the zeros. The third word is for what signs move up."""
    num_digits = 1 + np.searchsorted(_POWERS, numbers, "right")
    upper = numbers // _EIGHT_DIGITS
    first, second = eight_digits(upper), eight_digits(numbers - upper * _EIGHT_DIGITS)
    # Shifts by 64 and more, which negative ones become, leave nothing.
    down = ((_TEXT_DIGITS - num_digits) * 8).astype(np.uint64)
    low = (first >> down) | (second << (_WORD_BITS - down)) | (second >> (down - _WORD_BITS))
    return Texts([low, second >> down, np.zeros_like(low)], num_digits)
