"""Doubles in the digits that RapidJSON prints: Loitsch's Grisu2 (2010), which reads back, if not always the nearest.

For error sentences alone; answers have digits of their own.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import ceil, frexp

_BITS = 64
_HIDDEN_BIT = 1 << 52
_LEAST_EXPONENT = -1074
_LEAST_POWER, _POWER_STEP = -348, 8
"""Of the powers of ten that RapidJSON has in a table."""
_LOG10_OF_2 = 0.30102999566398114
_MAX_ROUNDED_DIGITS = 9
"""Behind so many fraction digits RapidJSON 1.1.0 does not look for the nearest any more."""


def shortest_digits(number: float) -> tuple[str, int]:
    """Of a finite positive number: digits, and the power of ten of the last of them."""
    significand, exponent = _parts(number)
    upper, upper_exponent = _normalized(2 * significand + 1, exponent - 1)
    if significand == _HIDDEN_BIT:  # the numbers below lie twice as near
        lower = (4 * significand - 1) << (exponent - 2 - upper_exponent)
    else:
        lower = (2 * significand - 1) << (exponent - 1 - upper_exponent)
    power, power_significand, power_exponent = _cached_power(upper_exponent)
    number_scaled = _times(_normalized(significand, exponent)[0], power_significand)
    upper_scaled = _times(upper, power_significand) - 1
    lower_scaled = _times(lower, power_significand) + 1
    fraction_bits = -(upper_exponent + power_exponent + _BITS)
    digits, last = _generated(upper_scaled, fraction_bits, upper_scaled - lower_scaled, upper_scaled - number_scaled)
    return digits, last - power


def _parts(number: float) -> tuple[int, int]:
    """number = significand x 2^exponent, of 53 bits unless it is subnormal."""
    exponent = max(frexp(number)[1] - 53, _LEAST_EXPONENT)
    return int(Fraction(number) / Fraction(2) ** exponent), exponent


def _normalized(significand: int, exponent: int) -> tuple[int, int]:
    shift = _BITS - significand.bit_length()
    return significand << shift, exponent - shift


def _times(first: int, second: int) -> int:
    """The upper half of the product, rounded."""
    return (first * second + (1 << (_BITS - 1))) >> _BITS


def _cached_power(exponent: int) -> tuple[int, int, int]:
    """A power of ten that brings 2^exponent between 2^-60 and 2^-32: the power, its significand and its exponent."""
    index = (ceil((-61 - exponent) * _LOG10_OF_2 + 347) >> 3) + 1
    power = _LEAST_POWER + _POWER_STEP * index
    return power, *_significand_of_power(power)


@cache
def _significand_of_power(power: int) -> tuple[int, int]:
    exact = Fraction(10) ** power
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length() - _BITS
    while exact / Fraction(2) ** exponent >= 1 << _BITS:
        exponent += 1
    return round(exact / Fraction(2) ** exponent), exponent


def _generated(upper: int, fraction_bits: int, delta: int, distance: int) -> tuple[str, int]:
    """Digits of `upper` until what is left is within `delta`; then the last goes down, to `distance` below `upper`."""
    one = 1 << fraction_bits
    whole, fraction = upper >> fraction_bits, upper & (one - 1)
    digits = 0
    for power in reversed(range(len(str(whole)))):
        digit, whole = divmod(whole, 10**power)
        digits = 10 * digits + digit
        rest = (whole << fraction_bits) + fraction
        if rest <= delta:
            return _rounded(digits, delta, rest, 10**power << fraction_bits, distance), power
    power = 0
    while True:
        fraction, delta, power = 10 * fraction, 10 * delta, power - 1
        digits = 10 * digits + (fraction >> fraction_bits)
        fraction &= one - 1
        if fraction < delta:
            scale = 10**-power if -power < _MAX_ROUNDED_DIGITS else 0
            return _rounded(digits, delta, fraction, one, distance * scale), power


def _rounded(digits: int, delta: int, rest: int, unit: int, distance: int) -> str:
    while (
        rest < distance
        and delta - rest >= unit
        and (rest + unit < distance or distance - rest > rest + unit - distance)
    ):
        digits -= 1
        rest += unit
    return str(digits)
