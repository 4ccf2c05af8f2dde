"""Predict answers, byte for byte."""

import json
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving.codec.json.predict import Format, NonFinite, encode_predict
from pyserving.errors import InvalidArgument

ROW, COLUMNAR = Format.ROW, Format.COLUMNAR
FLOATS = np.float32([2.5, 3, 4.5])


def text(golden):
    return textwrap.dedent(golden).strip("\n").encode()


def strings(*items):
    return np.array(items, object)


@pytest.mark.parametrize(
    ("outputs", "format", "golden"),
    [
        (
            {"y": FLOATS},
            ROW,
            """
            {
                "predictions": [2.5, 3.0, 4.5
                ]
            }""",
        ),
        (
            {"y": np.int32([[[0, 1, 2], [3, 4, 5]]])},
            ROW,
            """
            {
                "predictions": [[[0, 1, 2], [3, 4, 5]]
                ]
            }""",
        ),
        (
            {"a": FLOATS[:2], "b": np.array([[True, False], [False, True]]), "c": np.zeros((2, 0))},
            ROW,
            """
            {
                "predictions": [
                    {
                        "a": 2.5,
                        "b": [true, false],
                        "c": []
                    },
                    {
                        "a": 3.0,
                        "b": [false, true],
                        "c": []
                    }
                ]
            }""",
        ),
        (
            {"y_bytes": strings(b"hi", b"")},
            ROW,
            """
            {
                "predictions": [{
                        "b64": "aGk="
                    }, {
                        "b64": ""
                    }
                ]
            }""",
        ),
        (
            {"y": strings(b"hi"), "_bytes": strings([b"hi"])},
            ROW,
            """
            {
                "predictions": [
                    {
                        "y": "hi",
                        "_bytes": [{
                                "b64": "aGk="
                            }]
                    }
                ]
            }""",
        ),
        (
            {"y": np.zeros((0, 3))},
            ROW,
            """
            {
                "predictions": []
            }""",
        ),
        (
            {"y": np.zeros((0, 3)), "z": np.zeros(0)},
            ROW,
            """
            {
                "predictions": []
            }""",
        ),
        (
            {"y": FLOATS},
            COLUMNAR,
            """
            {
                "outputs": [
                    2.5,
                    3.0,
                    4.5
                ]
            }""",
        ),
        (
            {"y": np.array(7)},
            COLUMNAR,
            """
            {
                "outputs": 7
            }""",
        ),
        (
            {"y": np.zeros((2, 0, 3))},
            COLUMNAR,
            """
            {
                "outputs": [
                    [],
                    []
                ]
            }""",
        ),
        (
            {"a": np.int64([[1, -2]]), "n_bytes": np.int64(5), "s_bytes": strings(b"hi"), "e": np.zeros(0)},
            COLUMNAR,
            """
            {
                "outputs": {
                    "a": [
                        [
                            1,
                            -2
                        ]
                    ],
                    "n_bytes": 5,
                    "s_bytes": [
                        {
                            "b64": "aGk="
                        }
                    ],
                    "e": []
                }
            }""",
        ),
    ],
)
def test_answers_are_tensorflow_servings(outputs, format, golden):
    arrays = {alias: np.asarray(array) for alias, array in outputs.items()}
    assert encode_predict(arrays, format) == text(golden)


def test_strings_keep_their_bytes():
    body = encode_predict({"y": strings(b'\x00\x1f"\\/\x7f\b\f\n\r\t', b"\xff\xc3\xa9")}, ROW)
    assert body == (b'{\n    "predictions": ["\\u0000\\u001F\\"\\\\/\x7f\\b\\f\\n\\r\\t", "\xff\xc3\xa9"\n    ]\n}')


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ({"y": np.float32(1)}, "Tensor name: y has no shape information "),
        (
            {"y": np.zeros(2), "z": np.zeros((3, 1))},
            "Tensor name: z has inconsistent batch size: 3 expecting: 2",
        ),
        ({"y": np.zeros(1, np.float16)}, "Failed to write JSON value for tensor type: half"),
        ({"y": np.zeros(100, np.uint16)}, "Failed to write JSON value for tensor type: uint16"),
        ({"y": np.zeros(1, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_outputs_without_row_form_are_refused(outputs, sentence):
    with pytest.raises(InvalidArgument) as refusal:
        encode_predict({alias: np.asarray(array) for alias, array in outputs.items()}, ROW)
    assert refusal.value.message == sentence


def test_columnar_form_has_no_rule_for_the_first_dimension():
    body = json.loads(encode_predict({"y": np.zeros(2), "z": np.zeros((3, 1))}, COLUMNAR))
    assert body == {"outputs": {"y": [0, 0], "z": [[0], [0], [0]]}}


@pytest.mark.proves("difference: NaN and infinities in REST answers")
@pytest.mark.parametrize(
    ("nonfinite", "items"),
    [
        (NonFinite.TOKEN, b"NaN, Infinity, -Infinity"),
        (NonFinite.NULL, b"null, null, null"),
        (NonFinite.STRING, b'"NaN", "Infinity", "-Infinity"'),
    ],
)
def test_what_is_not_finite(nonfinite, items):
    array = np.float32([np.nan, np.inf, -np.inf])
    assert encode_predict({"y": array}, ROW, nonfinite=nonfinite) == b'{\n    "predictions": [%b\n    ]\n}' % items


def many(count, dtype):
    return (np.random.default_rng(count).normal(size=count) * 100).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(63,), (64,), (10, 100), (2, 3, 4, 50), (7, 1, 9), (200, 150)])
@pytest.mark.parametrize("format", Format)
def test_larger_answers_hold_the_same_values(dtype, shape, format):
    array = many(int(np.prod(shape)), dtype).reshape(shape)
    body = json.loads(encode_predict({"y": array}, format))
    np.testing.assert_array_equal(np.array(body["predictions" if format is ROW else "outputs"], dtype), array)
    both = json.loads(encode_predict({"y": array, "z": array[..., None]}, format))
    found = [row["z"] for row in both["predictions"]] if format is ROW else both["outputs"]["z"]
    np.testing.assert_array_equal(np.array(found, dtype), array[..., None])


@pytest.mark.proves("difference: REST answers of 64 KB and more")
@pytest.mark.parametrize("format", Format)
def test_white_space_goes_at_64_kilobytes(format):
    array = np.zeros((400, 10), np.int32)  # three bytes a number and brackets in rows, more in columns
    while (pretty := encode_predict({"y": array}, format)).startswith(b"{\n"):
        assert len(pretty) < 65536
        array = np.concatenate([array, array[:100]])
    assert len(pretty) < 65536
    key = b"predictions" if format is ROW else b"outputs"
    assert pretty == b'{"%b":[%b]}' % (key, b",".join([b"[0,0,0,0,0,0,0,0,0,0]"] * len(array)))


def test_large_answers_of_several_outputs_have_no_white_space():
    outputs = {"a": np.zeros((9000, 2), np.int8), "b_bytes": strings(*[b"hi"] * 9000)}
    item = b'{"a":[0,0],"b_bytes":{"b64":"aGk="}}'
    assert encode_predict(outputs, ROW) == b'{"predictions":[%b]}' % b",".join([item] * 9000)
    columns = b"[%b]" % b",".join([b"[0,0]"] * 9000), b"[%b]" % b",".join([b'{"b64":"aGk="}'] * 9000)
    assert encode_predict(outputs, COLUMNAR) == b'{"outputs":{"a":%b,"b_bytes":%b}}' % columns


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=4).map(tuple), st.sampled_from([np.float32, np.int64, np.bool_]))
def test_columns_keep_any_shape(shape, dtype):
    array = np.ones(shape, dtype)
    body = json.loads(encode_predict({"y": array}, COLUMNAR))
    assert body == {"outputs": array.tolist()}


def test_arrays_need_not_lie_in_order():
    array = np.arange(400, dtype=np.float32).reshape(20, 20).T[::2]
    body = json.loads(encode_predict({"y": array}, ROW))
    assert body["predictions"] == array.tolist()
