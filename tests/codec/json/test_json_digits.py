"""Digits made all at once against digits made one by one, which are C's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyserving.codec.json import digits, integers
from pyserving.codec.json.decimals import float_decimals
from pyserving.codec.json.layout import compact
from pyserving.codec.json.number_text import NonFinite, texts_of
from pyserving.codec.json.texts import joined

FLOATS = [np.float32, np.float64]
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64]


def split(texts, shape):
    return joined(texts, compact(1), shape)[1:-1].split(b",")


def check(array, nonfinite=NonFinite.TOKEN):
    expected = texts_of(array, nonfinite)
    found = split(digits.float_texts(array, nonfinite), array.shape)
    assert [pair for pair in zip(array.tolist(), found, expected, strict=True) if pair[1] != pair[2]] == []


def any_bits(dtype, count, seed):
    size = np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(count * size), dtype)


def neighbours(numbers, dtype):
    """Each number, and the next to both sides of it."""
    numbers = np.asarray(numbers, dtype)
    return np.concatenate([numbers, np.nextafter(numbers, dtype(0)), np.nextafter(numbers, dtype(np.inf))])


@pytest.mark.parametrize("dtype", FLOATS)
@settings(deadline=None)
@given(st.data())
def test_any_numbers(dtype, data):
    check(data.draw(arrays(dtype, st.integers(1, 20))))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("nonfinite", NonFinite)
def test_any_bits(dtype, nonfinite):
    check(any_bits(dtype, 20_000, 1), nonfinite)


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers(dtype):
    limits = np.finfo(dtype)
    check(neighbours([float(f"1e{power}") for power in range(-37, 39)], dtype))
    check(neighbours(2.0 ** np.arange(limits.minexp, limits.maxexp), dtype))
    check(-neighbours(5.0 ** np.arange(50), dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("denominator", [1, 3, 8, 10, 1000, 1024, 1 << 14, 1 << 20, 10**7])
def test_fractions_and_ties(dtype, denominator):
    """Multiples of a power of two are ties at nine digits and at seventeen, of a power of ten mostly short."""
    numerators = np.random.default_rng(denominator).integers(-(10**6), 10**6, 20_000)
    check((numerators / denominator).astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_ties_at_six_digits(dtype):
    """d.ddddd5 and its neighbours, in every place of the point where they are numbers of the type."""
    halves = np.arange(1_000_005, 10_000_000, 9_990)
    for scale in (1.0, 1 / 2, 1 / 4, 1 / 1024, 10.0, 1000.0):
        check(neighbours(halves * scale, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_that_round_up_to_another_digit(dtype):
    check(
        neighbours([9.9999995, 99999.95, 999999.5, 999999.95, 0.000099999995, 9999999.5, 9.999999999999999e22], dtype)
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_and_subnormal_numbers(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    check(np.array([0.0, -0.0, tiny, -tiny, 3 * tiny, np.finfo(dtype).tiny, np.finfo(dtype).max] * 20, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_more_numbers_than_one_chunk(dtype):
    check(np.random.default_rng(3).normal(size=50_000).astype(dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype):
    limits = np.iinfo(dtype)
    size = limits.bits // 8
    numbers = np.frombuffer(np.random.default_rng(4).bytes(1000 * size), dtype)
    small = (numbers // dtype(10 ** (size * 2 - 1))).astype(dtype)
    edges = [10**power + step for power in range(20) for step in (-1, 0) if 10**power + step <= limits.max]
    for array in (numbers, small, np.array([limits.min, limits.max], dtype), np.array(edges, dtype)):
        texts = integers.integer_texts(array)
        if texts is not None:
            assert split(texts, array.shape) == texts_of(array, NonFinite.TOKEN)
        else:
            assert np.abs(array.astype(np.float64)).max() >= 1e16
    assert integers.integer_texts(small) is not None


def test_booleans():
    array = np.array([True, False, True] * 7)
    texts = integers.integer_texts(array)
    assert texts is not None
    assert split(texts, array.shape) == texts_of(array, NonFinite.TOKEN)
    assert integers.integer_texts(np.ones(3, np.float16)) is None


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
def test_texts_are_joined_alike(shape):
    array = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    texts = digits.float_texts(array, NonFinite.TOKEN)
    layout = compact(len(shape))
    assert joined(texts, layout, shape) == layout.joined(texts_of(array, NonFinite.TOKEN), shape)


def test_hardly_any_number_is_undecided():
    numbers = np.random.default_rng(6).lognormal(sigma=8, size=100_000).astype(np.float32)
    assert float_decimals(numbers.astype(np.float64)).undecided.sum() < 100


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(3))
def test_a_million_of_any_bits(dtype, seed):
    check(any_bits(dtype, 1_000_000, seed))
