"""Floats as decimal digits, all elements of an array at once, rounded as C's printf rounds them.

Arithmetic in doubles with known bounds. What these do not decide, as a digit so near the middle between two, is told
apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np


@dataclass(frozen=True, slots=True)
class Decimals:
    """Numbers d.ddd... x 10^exponent; all arrays are [n]."""

    digits: np.ndarray
    """int64, of 9 digits for float32 and 17 for float64, the first of them no zero."""
    exponent: np.ndarray
    """int64."""
    is_short: np.ndarray
    """Six digits are enough to read the number back; the others are zeros."""
    undecided: np.ndarray
    """These have other digits, maybe."""


SHORT_DIGITS = 6
"""Of C's %g."""

_LEAST_POWER, _LARGEST_POWER = -330, 308
_POWERS = np.array([float(f"1e{power}") for power in range(_LEAST_POWER, _LARGEST_POWER + 1)])
_EXACT_POWER = 22
"""10^22 is the largest power of ten that a double holds exactly."""


def _power(exponents: np.ndarray) -> np.ndarray:
    powers: np.ndarray = _POWERS[exponents - _LEAST_POWER]
    return powers


def _estimated_exponent(magnitudes: np.ndarray) -> np.ndarray:
    """Of the first digit; one too many or too few only for numbers next to a power of ten."""
    exponent: np.ndarray = np.floor(np.log10(magnitudes))
    return exponent.astype(np.int64)


# ------------------------------------------------------------------------------------------------------------- float32

_MAX_EXACT_SCALE = 12
"""A float has 24 bits, 5^12 has 28: their product is a double. Larger powers of ten make a tie at nine digits of 2^-14
alone, and none at six; negative ones make none."""
_FLOAT_DOUBT = 2.0**-20
"""Two roundings of numbers below 2^30 to 53 bits, with room to spare."""
_FLOAT_HALF_GAP = 60.0
"""Decimals of six digits further than this from a number of nine digits do not read back as it: 10^9 / 2^24."""
_FLOAT_TAIL = np.uint64((1 << 29) - 1)
"""Bits of a double that a float has not. Their middle is a tie between two floats."""
_FLOAT_TIE_DOUBT = 64
"""In units of a double's last bit; the sum is off by some twenty."""
_FROM_FLOAT_TIE = np.uint64((1 << 64) - (1 << 28) + _FLOAT_TIE_DOUBT)


def float_decimals(magnitudes: np.ndarray) -> Decimals:
    """Of normal positive float32 numbers, given as float64."""
    exponent = _estimated_exponent(magnitudes)
    scaled = magnitudes * _power(8 - exponent)
    off = (scaled >= 1e9).astype(np.int64) - (scaled < 1e8)
    if off.any():
        exponent += off
        scaled = magnitudes * _power(8 - exponent)
    digits = np.rint(scaled)
    sixth = np.floor(digits / 1000)
    rest = scaled - 1000 * sixth  # exact
    rounds_up = rest > 500
    ties = np.flatnonzero(rest == 500)
    rounds_up[ties] = sixth[ties] % 2 == 1
    gap = 1000 * rounds_up - rest
    undecided = np.zeros(len(magnitudes), np.bool_)
    inexact = np.flatnonzero((exponent > 8) | (exponent < 8 - _MAX_EXACT_SCALE))
    if len(inexact):
        undecided[inexact] = _is_near_tie(scaled[inexact], digits[inexact], rest[inexact])
    is_short = np.zeros(len(magnitudes), np.bool_)
    candidates = np.flatnonzero(np.abs(gap) < _FLOAT_HALF_GAP)
    if len(candidates):
        number = magnitudes[candidates]
        short = number + gap[candidates] * _power(exponent[candidates] - 8)
        is_short[candidates] = short.astype(np.float32) == number
        undecided[candidates] |= _is_near_float_tie(short)
        digits = np.where(is_short, 1000 * (sixth + rounds_up), digits)
    return _carried(digits.astype(np.int64), exponent, is_short, undecided, 10**9)


def _is_near_tie(scaled: np.ndarray, digits: np.ndarray, rest: np.ndarray) -> np.ndarray:
    nine = np.abs(scaled - digits) > 0.5 - _FLOAT_DOUBT
    six = np.abs(rest - 500) < _FLOAT_DOUBT
    near: np.ndarray = nine | six
    return near


def _is_near_float_tie(doubles: np.ndarray) -> np.ndarray:
    distance: np.ndarray = (doubles.view(np.uint64) + _FROM_FLOAT_TIE) & _FLOAT_TAIL
    return distance <= 2 * _FLOAT_TIE_DOUBT


def _carried(
    digits: np.ndarray, exponent: np.ndarray, is_short: np.ndarray, undecided: np.ndarray, limit: int
) -> Decimals:
    """999.9 rounds to 1000: one digit too many."""
    carried = digits >= limit
    if carried.any():
        digits[carried] = limit // 10
        exponent += carried
    return Decimals(digits, exponent, is_short, undecided)


# ------------------------------------------------------------------------------------------------------------- float64

DOUBLE_RANGE = (1e-280, 1e280)
"""Within it no intermediate result overflows, or falls below the normal numbers."""
_DOUBLE_DOUBT = 2.0**-40
"""The bound is 2^-47: two roundings of numbers below 32, a power of ten that is known to 106 bits."""
_SPLITTER = 2.0**27 + 1
_DOUBLE_HALF_GAP = 12
"""10^17 / 2^53, as for floats."""
_SHORT_UNIT = 10**11
_WIDEST_POWER = 300


@dataclass(frozen=True, slots=True)
class _WidePowers:
    """10^power as high + low to 106 bits, and high as upper + lower, of 26 bits each."""

    high: np.ndarray
    low: np.ndarray
    upper: np.ndarray
    lower: np.ndarray


@cache
def _wide_powers() -> _WidePowers:
    exact = [Fraction(10) ** power for power in range(-_WIDEST_POWER, _WIDEST_POWER + 1)]
    high = np.array([float(power) for power in exact])
    low = np.array([float(power - Fraction(nearest)) for power, nearest in zip(exact, high.tolist(), strict=True)])
    fraction, exponent = np.frexp(high)
    upper = np.ldexp(np.rint(np.ldexp(fraction, 26)), exponent - 26)
    return _WidePowers(high, low, upper, high - upper)


def double_decimals(magnitudes: np.ndarray) -> Decimals:
    """Of float64 numbers within DOUBLE_RANGE."""
    exponent = _estimated_exponent(magnitudes)
    digits, fraction = _seventeen_digits(magnitudes, exponent)
    off = (digits >= 10**17).astype(np.int64) - (digits < 10**16)
    if off.any():
        exponent += off
        digits, fraction = _seventeen_digits(magnitudes, exponent)
    is_exact = (exponent <= 16) & (exponent >= 16 - _EXACT_POWER)
    undecided = ~is_exact & (np.abs(fraction) > 0.5 - _DOUBLE_DOUBT)
    is_short = np.zeros(len(magnitudes), np.bool_)
    sixth = (digits + _DOUBLE_HALF_GAP) // _SHORT_UNIT
    candidates = np.flatnonzero(np.abs(digits - sixth * _SHORT_UNIT) <= _DOUBLE_HALF_GAP)
    if len(candidates):
        last_power = exponent[candidates] - (SHORT_DIGITS - 1)
        is_short[candidates] = _reads_as(sixth[candidates], last_power, magnitudes[candidates])
        undecided[candidates] |= np.abs(last_power) > _EXACT_POWER
        digits = np.where(is_short, sixth * _SHORT_UNIT, digits)
    return _carried(digits, exponent, is_short, undecided, 10**17)


def _reads_as(integers: np.ndarray, power: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """integer x 10^power is the number; right where 10^power or its inverse is exact, for then it is rounded once."""
    product = integers * _power(np.maximum(power, 0))
    equal: np.ndarray = product / _power(np.maximum(-power, 0)) == numbers
    return equal


def _seventeen_digits(magnitudes: np.ndarray, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """magnitude x 10^(16 - exponent) as the nearest integer (the even one in a tie) and what it lacks.

    The product of two doubles is high + low without error (Dekker 1971), high being an even integer.
    """
    powers, index = _wide_powers(), _WIDEST_POWER + 16 - exponent
    upper_power, lower_power = powers.upper[index], powers.lower[index]
    split = magnitudes * _SPLITTER
    upper = split - (split - magnitudes)
    lower = magnitudes - upper
    high = magnitudes * powers.high[index]
    low = ((upper * upper_power - high) + upper * lower_power + lower * upper_power) + lower * lower_power
    low += magnitudes * powers.low[index]
    rounded = np.rint(low)
    return high.astype(np.int64) + rounded.astype(np.int64), low - rounded
