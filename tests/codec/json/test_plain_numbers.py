"""The quick way against the complete one."""

import numpy as np
import pytest
from hypothesis import given, settings

from pyserving.codec.json import plain_numbers
from pyserving.codec.json.predict import decode_predict, read_completely
from tests.codec.json.predict_bodies import SIGNATURES, bodies, outcome


def lookup(name):
    return SIGNATURES


def both(body):
    return outcome(decode_predict, body, lookup), outcome(read_completely, body, lookup)


def is_read_quickly(body, name="serving_default"):
    plain = plain_numbers.read(body)
    return plain is not None and plain.inputs(SIGNATURES[name].inputs) is not None


@settings(max_examples=500, deadline=None)
@given(bodies())
def test_both_ways_give_the_same(body):
    quick, complete = both(body)
    assert quick == complete


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [1.0,2.0,5.0]}',
        b'{"instances": [[[1,2],[3,4]],[[5,6],[7,8]]]}',
        b' {\n "instances" :\t[ [ 1e5 , -2.5E-3 ] ]\r\n} ',
        b'{"inputs": [1, 2], "signature_name": "serving_default"}',
        b'{"signature_name": "serving_default", "inputs": {"x": [[1], [2]]}}',
        b'{"inst\\u0061nces": [1]}',
        b'{"instances": [1], "signature_name": "serving\\u005fdefault"} ',
        b'\xef\xbb\xbf{"instances": [1]}',
    ],
)
def test_plain_requests_are_read_quickly(body):
    quick, complete = both(body)
    assert quick == complete
    assert is_read_quickly(body)


def test_named_columns_are_read_quickly():
    assert is_read_quickly(b'{"inputs": {"b": [[1, 2], [3, 4]], "a": [1]}}', "two")


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[1,2],[3],[4,5,6]]}',
        b'{"instances": [[1,2],3,[4]]}',
        b'{"instances": [1,[2],3]}',
        b'{"instances": [[[1],[2,3]],[[4,5],[6]]]}',
        b'{"inputs": [[1,[2]],[[3],4]]}',
        b'{"instances": [1]}x',
        b'{"instances": [NaN]}',
        b'{"instances": [1], "instances": [2]}',
        b'{"instances": [1], "other": 2}',
        b'{"instances": [true]}',
        b'{"instances": []}',
        b'{"instances": [[]]}',
        b'{"inputs": 1}',
        b'{"inputs": {"x": 1}}',
        b'{"inputs": {"x": [1], "x": [2]}}',
        b'{"inputs": {"y": [1]}}',
        b'{"instances": {"x": [1]}}',
        b'{"instances": [18446744073709551616]}',
        b"[1]",
        b"1",
        b"",
    ],
)
def test_what_is_not_plain_is_left_to_the_complete_reader(body):
    assert not is_read_quickly(body)
    quick, complete = both(body)
    assert quick == complete


@pytest.mark.parametrize("shape", [(7,), (3, 50), (2, 3, 4, 5), (40, 30, 3)])
@pytest.mark.parametrize("name", ["float", "double", "int64", "uint8", "uint32", "uint64"])
def test_larger_arrays_come_whole(shape, name):
    numbers = np.random.default_rng(0).integers(0, 200, shape)
    if name in ("float", "double"):
        numbers = numbers / 8
    body = b'{"signature_name":"%b","instances":%b}' % (name.encode(), str(numbers.tolist()).encode())
    assert is_read_quickly(body, name)
    quick, complete = both(body)
    assert quick == complete


@pytest.mark.parametrize("at", range(1, 12))
def test_a_bracket_in_the_wrong_place_is_seen(at):
    """Lists as many and as long together as in the right request."""
    lists = "[[[1,2],[3,4]],[[5,6],[7,8]]]"
    moved = lists.replace("],[", ",", 1).replace(f",{at}", f"],[{at}", 1)
    quick, complete = both(b'{"instances": %b}' % moved.encode())
    assert quick == complete
