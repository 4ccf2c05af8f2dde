"""Bodies of a layout that is known against the same bodies read as if nothing were."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving.codec.json.plain_layout import outline, plain_layout
from pyserving.codec.json.predict import decode_predict, read_completely
from pyserving.signature import DEFAULT_SIGNATURE_NAME, DataType
from tests.codec.json.predict_bodies import NUMBERS, SIGNATURES, bodies, outcome, signature

ALIKE = signature(x1=DataType.DT_FLOAT, x2=DataType.DT_FLOAT)
KNOWN = {**SIGNATURES, "alike": ALIKE}


def lookup(name):
    return KNOWN


def layout_of(body):
    asked = decode_predict(body, lookup)
    infos = KNOWN[asked.signature_name or DEFAULT_SIGNATURE_NAME].inputs
    return plain_layout(body, infos, asked.inputs, sorted(asked.inputs))


def check(layout, body):
    """What the layout gives for a body of its outline, if anything, is what the complete reader gives."""
    arrays = layout.arrays(body)
    if arrays is None:
        return
    _, _, inputs = outcome(read_completely, body, lookup)
    found = [(array.dtype, array.shape, np.ascontiguousarray(array).tobytes()) for array in arrays]
    assert found == [inputs[alias] for alias in sorted(inputs)]


@settings(max_examples=500, deadline=None)
@given(bodies(), st.data())
def test_other_numbers_in_a_known_layout_are_read_as_ever(body, data):
    if isinstance(outcome(decode_predict, body, lookup), str) or (layout := layout_of(body)) is None:
        return
    check(layout, body)
    other = "".join(
        data.draw(st.one_of(NUMBERS, st.just(""), st.just(piece))) if piece.strip("0123456789+-.eE") == "" else piece
        for piece in pieces(body.decode())
    ).encode()
    if outline(other) == outline(body):
        check(layout, other)


def pieces(text):
    """Numbers, and what stands between them."""
    found = [""]
    for character in text:
        if found[-1] and (character in "0123456789+-.eE") != (found[-1][-1] in "0123456789+-.eE"):
            found.append("")
        found[-1] += character
    return found


@pytest.mark.parametrize(
    ("known", "other"),
    [
        (b'{"instances": [1.0, 2.0]}', b' {"instances":[-3e2 ,\n4]}'),
        (b'{"instances": [[1], [2]]}', b'{"instances": [[1e39], [2]]}'),
        (b'{"inputs": [[[1, 2]]]}', b'{"inputs": [[[3, 4]]]}'),
        (b'{"inputs": {"b": [1.5], "a": [2]}, "signature_name": "two"}',) * 2,
    ],
)
def test_a_known_layout_is_read(known, other):
    layout = layout_of(known)
    assert layout.arrays(other) is not None
    check(layout, other)


@pytest.mark.parametrize(
    ("known", "other"),
    [
        (b'{"instances": [[1], [2]]}', b'{"instances": [[1], []]}'),
        (b'{"instances": [1]}', b'{"instances": []}'),
        (b'{"instances": [1, 2]}', b'{"instances": [1, ]}'),
        (b'{"instances": [1]}', b'{"instances1": [1]}'),
        (b'{"instances": [1]}', b'{"instancs": [1]}'),
        (b'{"instances": [1], "signature_name": "float"}', b'{"instances": [1], "signature_name": "float1"}'),
        (b'{"signature_name": "int32", "instances": [1]}', b'{"signature_name": "int32", "instances": [1.0]}'),
        (b'{"signature_name": "int32", "instances": [1]}', b'{"signature_name": "int32", "instances": [4294967296]}'),
        (b'{"signature_name": "int32", "instances": [1]}', b'{"signature_name": "int64", "instances": [1]}'),
    ],
)
def test_what_only_looks_alike_is_left_to_others(known, other):
    assert outline(known) == outline(other)
    assert layout_of(known).arrays(other) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"x": 1}, {"x": 2}]}',
        b'{"instances": [NaN]}',
        b'{"inputs": 1.0}',
        b'{"instances": [[], []]}',
        b'{"signature_name": "text", "instances": ["a"]}',
        b'{"signature_name": "bool", "instances": [true]}',
        b'{"signature_name": "alike", "inputs": {"x1": [[1, 2]], "x2": [[1], [2]]}}',
        b'{"instances": [%b]}' % b",".join([b"1"] * 5000),
    ],
)
def test_not_every_body_has_a_layout(body):
    """Two inputs whose names differ in digits might change places; the rest is not plain, or long."""
    assert layout_of(body) is None
