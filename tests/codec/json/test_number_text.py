import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving.codec.json.number_text import NonFinite, double_text, float_text, texts_of

TABLE = [
    (1, b"1.0", b"1.0"),
    (0.1, b"0.1", b"0.1"),
    (1 / 3, b"0.333333343", b"0.33333333333333331"),
    (9000000, b"9e+06", b"9e+06"),
    (999999, b"999999.0", b"999999.0"),
    (1234567, b"1234567.0", b"1234567.0"),
    (0.00003, b"3e-05", b"3e-05"),
    (1435774380, b"1.43577434e+09", b"1435774380.0"),
    (-0.0, b"-0.0", b"-0.0"),
]


@pytest.mark.parametrize(("number", "as_float", "as_double"), TABLE)
def test_numbers_print_as_the_contract_has_them(number, as_float, as_double):
    assert float_text(float(np.float32(number))) == as_float
    assert double_text(float(number)) == as_double


def test_the_largest_numbers():
    assert float_text(float(np.finfo(np.float32).max)) == b"3.40282347e+38"
    assert double_text(float(np.finfo(np.float64).max)) == b"1.7976931348623157e+308"
    assert float_text(16777216.0) == b"16777216.0"


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float_text_reads_back(number):
    text = float_text(number)
    assert np.float32(text) == np.float32(number)
    assert b"." in text or b"e" in text
    assert text.removesuffix(b".0") in (b"%g" % number, b"%.9g" % number)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_double_text_reads_back(number):
    text = double_text(number)
    assert float(text) == number
    assert b"." in text or b"e" in text
    assert text.removesuffix(b".0") in (b"%g" % number, b"%.17g" % number)


@pytest.mark.parametrize(
    ("nonfinite", "texts"),
    [
        (NonFinite.TOKEN, [b"NaN", b"Infinity", b"-Infinity"]),
        (NonFinite.NULL, [b"null"] * 3),
        (NonFinite.STRING, [b'"NaN"', b'"Infinity"', b'"-Infinity"']),
    ],
)
@pytest.mark.parametrize("write", [float_text, double_text])
def test_what_is_not_finite_is_a_word(write, nonfinite, texts):
    assert [write(number, nonfinite) for number in (math.nan, math.inf, -math.inf)] == texts


def test_integers_and_booleans():
    assert texts_of(np.int8([-128, 127]), NonFinite.TOKEN) == [b"-128", b"127"]
    assert texts_of(np.uint64([18446744073709551615]), NonFinite.TOKEN) == [b"18446744073709551615"]
    assert texts_of(np.array([True, False]), NonFinite.TOKEN) == [b"true", b"false"]
    assert texts_of(np.float16([1]), NonFinite.TOKEN) is None


@pytest.mark.slow
def test_rounding_twice_never_ends_at_another_float():
    """float_text relies on it: as a double, no decimal of six digits is taken for the middle of two floats."""
    digits = np.arange(100_000, 1_000_000, dtype=np.float64)
    for power in range(-17, 23):  # where a double is rounded once
        doubles = digits * 10.0**power if power >= 0 else digits / 10.0**-power
        ties = np.flatnonzero((doubles.view(np.uint64) & np.uint64((1 << 29) - 1)) == 1 << 28)
        for decimal, double in zip(digits[ties].astype(int).tolist(), doubles[ties].tolist(), strict=True):
            numerator, denominator = double.as_integer_ratio()
            assert decimal * 10 ** max(power, 0) * denominator == numerator * 10 ** max(-power, 0)
