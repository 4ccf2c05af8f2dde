"""Arrays of numbers as text, all elements at once, in the very digits of `number_text`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pyserving.codec.json.decimals import (
    DOUBLE_RANGE,
    SHORT_DIGITS,
    Decimals,
    double_decimals,
    float_decimals,
)
from pyserving.codec.json.number_text import NonFinite, double_text, float_text
from pyserving.codec.json.texts import WORD_BYTES, Texts, as_word

CHUNK = 16384
"""Elements at a time: what is in between stays in the processor's cache."""
_LEAST_PLAIN = -4
"""Numbers from 10^-4 on are written without an exponent (C's %g)."""

_FOUR_DIGITS = np.array([as_word(b"%04d" % value) for value in range(10_000)], np.uint64)
_SIGNIFICANT = np.array([len((b"%04d" % value).rstrip(b"0")) for value in range(10_000)], np.int64)
"""Of four digits, how many are left without the zeros at their end."""
_ZERO, _MINUS = np.uint64(ord("0")), np.uint64(ord("-"))
_ZEROS_BEHIND = np.uint64(as_word(b"\0" + b"0" * 7))
_BYTE, _HALF_WORD, _WORD_BITS = np.uint64(8), np.uint64(32), np.uint64(64)
_NOTHING, _ONE = np.uint64(0), np.uint64(1)
_LEAST_EXPONENT, _LARGEST_EXPONENT = -308, 308
_EXPONENTS = [b"e%+03d" % exponent for exponent in range(_LEAST_EXPONENT, _LARGEST_EXPONENT + 1)]
_EXPONENT_WORDS = np.array([as_word(text) for text in _EXPONENTS], np.uint64)
_EXPONENT_LENGTHS = np.array([len(text) for text in _EXPONENTS])


@dataclass(frozen=True, slots=True)
class _Notation:
    """How digits become a text without an exponent. Rows: the number's decimal exponent, from -4 on."""

    shift: np.ndarray
    """By so many bits the digits behind the point move up, to make room for what stands before them."""
    kept: Sequence[np.ndarray]
    """For each word, a mask of the digits before the point."""
    constant: Sequence[np.ndarray]
    """For each word, the point, and the zeros before all digits."""
    moved: Sequence[np.ndarray]
    """For each word, a mask of the digits behind the point, where they have moved to."""
    first_row: Sequence[int]
    """For each word, from which row on it is anything but moved digits."""


def _notation(num_words: int, num_digits: int) -> _Notation:
    rows = [_row(exponent, num_words * WORD_BYTES) for exponent in range(_LEAST_PLAIN, num_digits)]
    masks = [
        [np.array([as_word(row[part][WORD_BYTES * word :]) for row in rows], np.uint64) for word in range(num_words)]
        for part in range(3)
    ]
    shift = [1 if exponent >= 0 else 1 - exponent for exponent in range(_LEAST_PLAIN, num_digits)]
    kept, constant, moved = masks
    first_row = [0, *(WORD_BYTES * word - 1 - _LEAST_PLAIN for word in range(1, num_words))]
    return _Notation(np.array(shift, np.uint64) * _BYTE, kept, constant, moved, first_row)


def _row(exponent: int, size: int) -> tuple[bytes, bytes, bytes]:
    """Masks of one exponent: kept, constant, moved."""
    if exponent < 0:
        zeros = b"0." + b"0" * (-exponent - 1)
        return b"", zeros, b"\0" * len(zeros) + b"\xff" * (size - len(zeros))
    point = exponent + 1
    return b"\xff" * point, b"\0" * point + b".", b"\0" * (point + 1) + b"\xff" * (size - point - 1)


@dataclass(frozen=True, slots=True)
class _FloatType:
    """What differs between the two float types."""

    decimals: Callable[[np.ndarray], Decimals]
    num_digits: int
    bounds: tuple[float, float]
    """Magnitudes that `decimals` knows."""
    text: Callable[[float, NonFinite], bytes]
    notation: _Notation


_FLOAT_LIMITS = np.finfo(np.float32)
FLOAT_TYPES = {
    np.dtype(np.float32): _FloatType(
        float_decimals, 9, (float(_FLOAT_LIMITS.tiny), float(_FLOAT_LIMITS.max)), float_text, _notation(2, 9)
    ),
    np.dtype(np.float64): _FloatType(double_decimals, 17, DOUBLE_RANGE, double_text, _notation(3, 17)),
}


def float_texts(array: np.ndarray, nonfinite: NonFinite) -> Iterator[Texts]:
    """Of a float32 or float64 array, in parts."""
    kind = FLOAT_TYPES[array.dtype]
    numbers = array.ravel()
    for start in range(0, len(numbers), CHUNK):
        yield _float_texts(numbers[start : start + CHUNK], kind, nonfinite)


def _float_texts(numbers: np.ndarray, kind: _FloatType, nonfinite: NonFinite) -> Texts:
    with np.errstate(invalid="ignore"):  # a signaling NaN
        magnitudes = np.abs(numbers).astype(np.float64)
    least, largest = kind.bounds
    is_other = ~((magnitudes >= least) & (magnitudes <= largest))
    others = np.flatnonzero(is_other)
    magnitudes[others] = 1.0
    decimals = kind.decimals(magnitudes)
    texts = _decimal_texts(decimals, kind)
    zeros = others[numbers[others] == 0]
    texts.words[0][zeros] = as_word(b"0.0")
    texts.lengths[zeros] = 3
    write_signs(np.signbit(numbers), texts)
    is_other[zeros] = False
    for index in np.flatnonzero(is_other | decimals.undecided).tolist():
        _write_text(kind.text(float(numbers[index]), nonfinite), texts, index)
    return texts


def _write_text(text: bytes, texts: Texts, index: int) -> None:
    for word, start in zip(texts.words, range(0, len(text), WORD_BYTES), strict=False):
        word[index] = as_word(text[start:])
    texts.lengths[index] = len(text)


def write_signs(is_negative: np.ndarray, texts: Texts) -> None:
    """A minus before some of the texts."""
    if not is_negative.any():
        return
    shift = is_negative * _BYTE
    sign = is_negative * _MINUS
    for word in texts.words:
        pushed_out = word >> (_WORD_BITS - shift)
        word <<= shift
        word |= sign
        sign = pushed_out
    texts.lengths[:] += is_negative


def _decimal_texts(decimals: Decimals, kind: _FloatType) -> Texts:
    digits, num_significant = _digit_words(decimals.digits, kind.num_digits)
    exponent = decimals.exponent
    is_plain = (exponent >= _LEAST_PLAIN) & (exponent < np.where(decimals.is_short, SHORT_DIGITS, kind.num_digits))
    point_after = np.where(is_plain, exponent, 0)
    words = _with_point(digits, point_after - _LEAST_PLAIN, kind.notation)
    lengths = np.where(
        point_after < 0, num_significant + 1 - point_after, np.maximum(num_significant, point_after + 2) + 1
    )
    texts = Texts(words, lengths)
    with_exponent = np.flatnonzero(~is_plain)
    if len(with_exponent):
        _write_exponents(exponent[with_exponent], num_significant[with_exponent], with_exponent, texts)
    return texts


def _digit_words(numbers: np.ndarray, num_digits: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The digits (9 or 17) as text, zeros behind them, and how many there are without the zeros at their end."""
    rest = numbers // 10
    last = numbers - 10 * rest
    groups = []
    for _ in range(num_digits // 4 - 1):
        rest, whole = rest // 10_000, rest
        groups.append(whole - 10_000 * rest)
    groups.append(rest)
    groups.reverse()
    words = [_eight_digits(*pair) for pair in zip(groups[::2], groups[1::2], strict=True)]
    words.append((last.astype(np.uint64) + _ZERO) | _ZEROS_BEHIND)
    return words, _num_significant(groups, last, num_digits)


def _eight_digits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two numbers below 10^4, one behind the other."""
    digits: np.ndarray = _FOUR_DIGITS[first] | (_FOUR_DIGITS[second] << _HALF_WORD)
    return digits


def eight_digits(numbers: np.ndarray) -> np.ndarray:
    """Numbers below 10^8 as words, with zeros before them."""
    first = numbers // 10_000
    return _eight_digits(first, numbers - 10_000 * first)


def _num_significant(groups: list[np.ndarray], last: np.ndarray, num_digits: int) -> np.ndarray:
    counts = np.full(len(last), num_digits)
    rows = np.flatnonzero(last == 0)
    for index in reversed(range(len(groups))):
        group = groups[index][rows]
        counts[rows] = 4 * index + _SIGNIFICANT[group]
        rows = rows[group == 0]
    return counts


def _with_point(digits: list[np.ndarray], row: np.ndarray, notation: _Notation) -> list[np.ndarray]:
    last_row = row.max()
    at: np.ndarray | np.int64 = row
    if row.min() == last_row:
        at = last_row  # nothing to look up for each
    shift = notation.shift[at]
    carried = _WORD_BITS - shift
    below = np.zeros(1, np.uint64)
    words = []
    for index, word in enumerate(digits):
        text = (word << shift) | (below >> carried)
        if last_row >= notation.first_row[index]:
            text &= notation.moved[index][at]
            text |= notation.constant[index][at]
            text |= word & notation.kept[index][at]
        words.append(text)
        below = word
    return words


def _write_exponents(exponent: np.ndarray, num_significant: np.ndarray, rows: np.ndarray, texts: Texts) -> None:
    """Behind one digit, or behind a point and more of them."""
    start = num_significant + (num_significant > 1)
    tail = _EXPONENT_WORDS[exponent - _LEAST_EXPONENT]
    for index, word in enumerate(texts.words):
        # Shifts by 64 and more, which negative ones become, leave nothing.
        up = ((start - WORD_BYTES * index) * 8).astype(np.uint64)
        down = ((WORD_BYTES * index - start) * 8).astype(np.uint64)
        before = np.where(start > WORD_BYTES * index, (_ONE << up) - _ONE, _NOTHING)
        word[rows] = (word[rows] & before) | (tail << up) | (tail >> down)
    texts.lengths[rows] = start + _EXPONENT_LENGTHS[exponent - _LEAST_EXPONENT]
