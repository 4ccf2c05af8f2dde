"""Large arrays printed by orjson against digits made one by one, which are C's own."""

import json

import numpy as np
import pytest

from pyserving.codec.json import bulk
from pyserving.codec.json.bulk import compact_pieces
from pyserving.codec.json.number_text import NonFinite, texts_of
from pyserving.codec.json.predict import Format, encode_predict


def written(array, nonfinite=NonFinite.TOKEN):
    pieces = compact_pieces(array, nonfinite)
    return None if pieces is None else b"".join(pieces)


def check(array, nonfinite=NonFinite.TOKEN):
    found = written(array, nonfinite).translate(None, b"[]").split(b",")
    expected = texts_of(array, nonfinite)
    assert [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]] == []


def plain_floats(seed, count=100_000):
    """Of all exponents that are written without one, and every pattern of digits."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 1 << 32, count, np.uint32) & np.uint32(0x807FFFFF)
    return (bits | random.integers(114, 156, count, np.uint32) << np.uint32(23)).view(np.float32)


@pytest.fixture
def any_share(monkeypatch):
    """However many are to be printed apart."""
    monkeypatch.setattr(bulk, "_OTHERS_IN", 0)


def test_digits_are_those_of_one_by_one():
    check(plain_floats(1))


@pytest.mark.parametrize("digits", range(1, 9))
def test_decimals_of_few_digits_come_out_as_they_went_in(digits, any_share):
    random = np.random.default_rng(digits)
    numbers = 10.0 ** random.uniform(-5, 10, 5000)
    check(np.float32([float(f"{number:.{digits}g}") for number in numbers.tolist()]))


@pytest.mark.parametrize("nonfinite", NonFinite)
def test_what_stands_at_the_edges(nonfinite, any_share):
    powers = np.float32([float(f"1e{power}") for power in range(-8, 13)])
    numbers = np.concatenate([powers, np.nextafter(powers, np.float32(0)), np.nextafter(powers, np.float32(np.inf))])
    others = np.float32([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, np.finfo(np.float32).max, 999999.5, 999999.94])
    check(np.concatenate([numbers, -numbers, others]), nonfinite)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, np.bool_])
def test_integers_and_truths(dtype):
    array = np.frombuffer(np.random.default_rng(2).bytes(20_000 * np.dtype(dtype).itemsize), np.uint8)
    check((array % 2).astype(np.bool_) if dtype is np.bool_ else array.view(dtype))


@pytest.mark.parametrize("shape", [(20_000,), (1, 20_000), (2, 10_000), (5000, 4), (20, 10, 100), (2, 2, 5000), (3, 1)])
def test_lists_are_those_of_the_shape(shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    assert json.loads(written(array)) == array.tolist()
    assert json.loads(written(array.astype(np.float32))) == array.tolist()


def test_arrays_that_are_not_contiguous():
    array = np.arange(20_000, dtype=np.float32).reshape(100, 200)
    assert json.loads(written(array.T)) == array.T.tolist()
    assert json.loads(written(array[:, ::2])) == array[:, ::2].tolist()


def test_many_exponents_are_for_others():
    assert written(np.full(20_000, 1e-7, np.float32)) is None
    assert written(np.zeros(20_000)) is None


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("shape", [(40_000,), (200, 300), (1, 60_000)])
def test_large_answers_are_the_same_either_way(format, shape, monkeypatch):
    outputs = {"y": np.random.default_rng(3).normal(size=shape).astype(np.float32)}
    quick = encode_predict(outputs, format)
    monkeypatch.setattr(bulk, "CHUNK", 1 << 40)
    assert quick == encode_predict(outputs, format)
