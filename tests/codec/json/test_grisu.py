import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving.codec.json.grisu import shortest_digits

POSITIVE = st.floats(min_value=5e-324, allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(POSITIVE)
def test_digits_read_back(number):
    digits, power = shortest_digits(number)
    assert float(f"{digits}e{power}") == number
    assert len(digits) <= 17


@pytest.mark.parametrize(
    ("number", "digits"),
    [
        (0.1, ("1", -1)),
        (1e21, ("1", 21)),
        (123456.5, ("1234565", -1)),
        (5e-324, ("5", -324)),
        (1.7976931348623157e308, ("17976931348623157", 292)),
        (2.0**64, ("18446744073709553", 3)),
    ],
)
def test_numbers_that_were_seen(number, digits):
    assert shortest_digits(number) == digits


def test_powers_of_two_read_back():
    for bits in range(1, 0x7FF):
        (number,) = struct.unpack("<d", struct.pack("<Q", bits << 52))
        digits, power = shortest_digits(number)
        assert float(f"{digits}e{power}") == number
