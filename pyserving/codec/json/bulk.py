"""Large arrays of numbers as compact JSON, by orjson.

It prints a double in the fewest digits that read back as it. So it is given, for each float, the double next to the
decimal that is wanted; what is wanted with an exponent is printed apart, and put in the place of a NaN's `null`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import orjson

from pyserving.codec.json.number_text import NonFinite, texts_of

CHUNK = 8192
"""Elements at a time: what is in between stays in the processor's cache, and nobody waits long for the GIL."""
_OTHERS_IN = 64
"""Of so many numbers one may be printed apart, which takes as long as printing forty together."""
_NULL = b"null"
_FLOAT32 = np.dtype(np.float32)

_LEAST_PLAIN, _LEAST_SHORT_EXPONENT, _LEAST_LONG_EXPONENT = 1e-4, 1e6, 1e9
"""Magnitudes from the first on have no exponent: in six digits up to the second, in nine to the third."""
_BUCKET_SHIFT = 20
"""Which leaves of a float32's bits its exponent and three bits behind it, besides the sign: the numbers of a bucket lie
within an eighth of each other, and at most one power of ten among them."""
_BUCKETS = 1 << 11
_LEAST_POWER, _LARGEST_POWER = -4, 10


def _power_above(least: float) -> int:
    powers = range(_LEAST_POWER, _LARGEST_POWER)
    return next((power for power in powers if least < float(f"1e{power}")), _LARGEST_POWER)


_LEAST_OF_BUCKETS = (np.arange(_BUCKETS, dtype=np.uint32) << np.uint32(_BUCKET_SHIFT)).view(np.float32).tolist()
_POWERS = [_power_above(least) for least in _LEAST_OF_BUCKETS]
_BOUNDS = np.array([float(f"1e{power}") for power in _POWERS])
_SCALES = np.array([[float(f"1e{9 - power}"), float(f"1e{8 - power}")] for power in _POWERS]).ravel()
"""Of each bucket, below its bound and from there on: the power of ten that gives a number nine digits before its point.
Those of numbers that are written without an exponent are exact, and so is the product: 24 bits times 28."""


def compact_pieces(array: np.ndarray, nonfinite: NonFinite) -> list[bytes | memoryview] | None:
    """An array with a dimension at least, and elements, as JSON without white space, in pieces; None for one that is
    better written in another way."""
    if array.dtype.kind in "iub":
        return list(_pieces(np.ascontiguousarray(array)))
    if array.dtype != _FLOAT32:
        return None
    numbers = np.ascontiguousarray(array).ravel()
    doubles = np.empty(len(numbers))
    others: list[int] = []
    for start in range(0, len(numbers), CHUNK):
        part = slice(start, start + CHUNK)
        others += (start + _fill(numbers[part], doubles[part])).tolist()
        if len(others) * _OTHERS_IN > len(numbers):
            return None
    pieces = list(_pieces(doubles.reshape(array.shape)))
    return _with_others(pieces, texts_of(numbers[others], nonfinite) or []) if others else pieces


def _fill(numbers: np.ndarray, doubles: np.ndarray) -> np.ndarray:
    """Put the doubles for float32 numbers into place; gives the indices of those that are to be printed apart, and are
    NaN now."""
    with np.errstate(all="ignore"):  # of those
        exact = numbers.astype(np.float64)
        magnitudes = np.abs(exact)
        bucket = (numbers.view(np.uint32) >> np.uint32(_BUCKET_SHIFT)) & np.uint32(_BUCKETS - 1)
        row = bucket.astype(np.intp)
        is_above = magnitudes >= _BOUNDS.take(row)
        row += row
        row += is_above
        scale = _SCALES.take(row)
        exact *= scale
        np.rint(exact, out=doubles)
        doubles /= scale
        exact *= 1e-3
        short = np.rint(exact, out=exact)
        short *= 1e3
        short /= scale
        # No decimal of six digits lies so near the middle of two floats that rounding twice ends at the wrong one.
        is_short = short.astype(np.float32) == numbers
    np.copyto(doubles, short, where=is_short)
    is_plain = (magnitudes >= _LEAST_PLAIN) & (magnitudes < _LEAST_LONG_EXPONENT)
    is_plain &= ~(is_short & (magnitudes >= _LEAST_SHORT_EXPONENT))
    is_plain |= magnitudes == 0
    others = np.flatnonzero(~is_plain)
    doubles[others] = np.nan
    return others


def _pieces(array: np.ndarray) -> Iterator[bytes | memoryview]:
    """A contiguous array, a chunk at a time."""
    if array.size <= CHUNK:
        yield _printed(array)
        return
    yield b"["
    row_size = array[0].size
    if row_size > CHUNK:
        for index, row in enumerate(array):
            yield b"," if index else b""
            yield from _pieces(row)
    else:
        rows = CHUNK // row_size
        for start in range(0, len(array), rows):
            yield b"," if start else b""
            yield memoryview(_printed(array[start : start + rows]))[1:-1]
    yield b"]"


def _printed(array: np.ndarray) -> bytes:
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def _with_others(pieces: list[bytes | memoryview], texts: list[bytes]) -> list[bytes | memoryview]:
    """The texts in the places of the nulls, whose first letter nothing else has: one letter is found ten times as fast
    as four."""
    first, *rest = b"".join(pieces).split(_NULL[:1])
    behind = [memoryview(piece)[len(_NULL) - 1 :] for piece in rest]
    mended: Iterator[bytes | memoryview] = chain.from_iterable(zip(texts, behind, strict=True))
    return [first, *mended]
