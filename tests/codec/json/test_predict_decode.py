"""What a predict request in JSON becomes, and every sentence that refuses one, in the contract's order of checks."""

import numpy as np
import pytest

from pyserving.codec.json.predict import Format, decode_predict
from pyserving.errors import Code, NotFound, ServingError
from pyserving.signature import DataType
from tests.codec.json.predict_bodies import SIGNATURES, signature


def decode(body, signatures=SIGNATURES):
    return decode_predict(body, lambda name: signatures)


def refusal(body, signatures=SIGNATURES):
    with pytest.raises(ServingError) as raised:
        decode(body, signatures)
    return raised.value


@pytest.mark.parametrize(
    ("body", "values", "format"),
    [
        (b'{"instances": [1.0,2.0,5.0]}', [1, 2, 5], Format.ROW),
        (b'{"instances": [[1,2],[3,4]], "signature_name": "serving_default"}', [[1, 2], [3, 4]], Format.ROW),
        (b'{"signature_name": "", "instances": [{"x": 1}, {"x": 2.5}]}', [1, 2.5], Format.ROW),
        (b'{"instances": [[], []]}', [[], []], Format.ROW),
        (b'{"instances": [[NaN], [-Infinity]]}', [[np.nan], [-np.inf]], Format.ROW),
        (b'{"unused": {"a": [1]}, "instances": [1], "instances": [2]}', [1], Format.ROW),
        (b'{"inputs": 3}', 3, Format.COLUMNAR),
        (b'{"inputs": []}', [], Format.COLUMNAR),
        (b'{"inputs": [[1], [2]]} and more', [[1], [2]], Format.COLUMNAR),
        (b'{"inputs": {"x": [1, 2], "other": null}}', [1, 2], Format.COLUMNAR),
        (b'{"inputs": [1e300, -1e300, 1e-300, -0.0]}', [np.inf, -np.inf, 0, -0.0], Format.COLUMNAR),
    ],
)
def test_values_become_the_input(body, values, format):
    found = decode(body)
    assert found.format is format
    expected = np.array(values, np.float32)
    np.testing.assert_array_equal(found.inputs["x"], expected)
    assert found.inputs["x"].shape == expected.shape
    assert found.inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(np.signbit(found.inputs["x"]), np.signbit(expected))


def test_several_inputs_come_by_name():
    found = decode(b'{"signature_name": "two", "instances": [{"a": 1, "b": [1.5]}, {"b": [2], "a": 2}]}')
    assert found.signature_name == "two"
    assert found.inputs["a"].tolist() == [1, 2]
    assert found.inputs["b"].tolist() == [[1.5], [2.0]]
    columns = decode(b'{"signature_name": "two", "inputs": {"a": [[7]], "b": 2}}')
    assert columns.inputs["a"].tolist() == [[7]]
    assert columns.inputs["b"].shape == ()


def test_strings_and_base64_objects_mix():
    body = b'{"signature_name": "text", "instances": ["a\\u0000", {"b64": "aGk="}, {"b64": " a G k."}, "\xff", ""]}'
    assert decode(body).inputs["t"].tolist() == [b"a\0", b"hi", b"hi", b"\xff", b""]


def test_a_base64_object_is_the_value_of_the_only_input():
    signatures = {"serving_default": signature(b64=DataType.DT_STRING)}
    assert decode(b'{"inputs": {"b64": "aGk="}}', signatures).inputs["b64"].item() == b"hi"


@pytest.mark.parametrize("encoded", ["a", "aGk==", "aGk=x", "aG-k", "aGk=\\u0000", "aaaa=", "="])
def test_bad_base64_is_refused(encoded):
    error = refusal(b'{"signature_name": "text", "inputs": {"b64": "%b"}}' % encoded.encode())
    assert error.status == "INVALID_ARGUMENT: Unable to base64 decode"


@pytest.mark.parametrize("encoded", ["aGk", "aGk=", "aGk.", " a\\nG\\tk = ", "aGl="])
def test_base64_may_go_without_padding(encoded):
    body = b'{"signature_name": "text", "inputs": {"b64": "%b"}}' % encoded.encode()
    assert decode(body).inputs["t"].item() == b"hi"


@pytest.mark.parametrize(
    ("dtype", "numbers", "stored"),
    [
        (DataType.DT_INT8, "[300, -1, -2147483648]", np.int8([44, -1, 0])),
        (DataType.DT_UINT8, "[300, -1, 7]", np.uint8([44, 255, 7])),
        (DataType.DT_INT16, "[65537]", np.int16([1])),
        (DataType.DT_INT32, "[-0, 2147483647]", np.int32([0, 2147483647])),
        (DataType.DT_INT64, "[-9223372036854775808]", np.int64([-9223372036854775808])),
        (DataType.DT_UINT32, "[4294967295]", np.uint32([4294967295])),
        (DataType.DT_UINT64, "[18446744073709551615]", np.uint64([18446744073709551615])),
        (DataType.DT_DOUBLE, "[0.1, 18446744073709551616]", np.float64([0.1, 18446744073709551616])),
        (DataType.DT_BOOL, "[true, false]", np.array([True, False])),
        (DataType.DT_HALF, "[]", np.empty(0, np.float16)),
    ],
)
def test_each_dtype_takes_its_values(dtype, numbers, stored):
    body = f'{{"signature_name": "{dtype.type_name}", "inputs": {numbers}}}'
    array = decode(body.encode()).inputs["x"]
    assert array.dtype == stored.dtype
    np.testing.assert_array_equal(array, stored)


@pytest.mark.parametrize(
    ("dtype", "value", "kind"),
    [
        (DataType.DT_FLOAT, "true", "True"),
        (DataType.DT_FLOAT, '"1"', "String"),
        (DataType.DT_FLOAT, '{"b64": "aGk="}', "Object"),
        (DataType.DT_INT32, "1.0", "Number"),
        (DataType.DT_INT32, "2147483648", "Number"),
        (DataType.DT_INT8, "-2147483649", "Number"),
        (DataType.DT_INT64, "9223372036854775808", "Number"),
        (DataType.DT_UINT32, "-1", "Number"),
        (DataType.DT_UINT32, "4294967296", "Number"),
        (DataType.DT_UINT64, "-1", "Number"),
        (DataType.DT_BOOL, "1", "Number"),
        (DataType.DT_BOOL, "null", "Null"),
        (DataType.DT_STRING, "false", "False"),
        (DataType.DT_STRING, "1", "Number"),
    ],
)
def test_other_values_are_refused(dtype, value, kind):
    body = f'{{"signature_name": "{dtype.type_name}", "inputs": [{value}]}}'
    shown = '{\n    "b64": "aGk="\n}' if kind == "Object" else value
    sentence = f"JSON Value: {shown} Type: {kind} is not of expected type: {dtype.type_name}"
    assert refusal(body.encode()).status == f"INVALID_ARGUMENT: {sentence}"


def in_row(index, sentence, key=""):
    return f"Failed to process element: {index}{key} of 'instances' list. Error: INVALID_ARGUMENT: {sentence}"


PLAIN_FOR_MANY = (
    "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
)
COLUMN_FOR_MANY = (
    "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
)
ONLY_ONE = (
    'JSON Value: {\n    "instances": [1],\n    "inputs": 1\n} Not formatted correctly expecting only one of '
    "'inputs' or 'instances' keys to exist "
)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("[1, 2]", "JSON Value: [1, 2] Is not object"),
        ("NaN", "JSON Value:  Is not object"),
        (
            '{"signature_name": null}',
            'JSON Value: {\n    "signature_name": null\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        ('{"signature_name": "nope"}', 'Serving signature name: "nope" not found in signature def'),
        ('{"signature_name": "no_inputs"}', "Failed to get input map for signature: no_inputs"),
        ('{"instances": [1], "inputs": 1}', ONLY_ONE),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": 1}', "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
        ('{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ('{"signature_name": "two", "instances": [1]}', PLAIN_FOR_MANY),
        ('{"signature_name": "two", "inputs": [1]}', COLUMN_FOR_MANY),
        ('{"signature_name": "two", "inputs": {"a": 1}}', "Missing named input: b in 'inputs' object."),
        ('{"instances": [{"x": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
        ('{"instances": [{"x": 1}, {"b64": "aGk="}]}', "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"x": 2}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [{"y": 1}]}', in_row(0, "JSON object: does not have named input: y", " key: y")),
        ('{"instances": [{"b64": 5}]}', in_row(0, "JSON object: does not have named input: b64", " key: b64")),
        (
            '{"signature_name": "two", "instances": [{"a": 1, "b": 1}, {"a": 2}]}',
            "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"a\": 2\n} "
            "keys must be equal to: a,b",
        ),
        ('{"instances": [[1, 2], [3]]}', in_row(1, "Expecting tensor size: 2 but got: 1")),
        ('{"instances": [[1, 2], [[3], [4]]]}', in_row(1, "Expecting shape [2] but got: [2,1]")),
        ('{"instances": [1, [2]]}', in_row(1, "Expecting shape [] but got: [1]")),
        ('{"instances": [{"x": [1, 2]}, {"x": 3}]}', in_row(1, "Expecting tensor size: 2 but got: 1", " key: x")),
        ('{"instances": [[1, [2]]]}', in_row(0, "Encountered list at unexpected level: 1 expected < 1")),
        (
            '{"instances": [[[1], 2]]}',
            in_row(0, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ),
        (
            '{"instances": [[[1, 2], [3]]]}',
            in_row(0, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ),
        ('{"inputs": [[], [1]]}', "Encountered list at unexpected size: 1 at level: 1 expected size: 0"),
        ('{"instances": [1, true]}', in_row(1, "JSON Value: true Type: True is not of expected type: float")),
        (
            '{"signature_name": "text", "instances": ["a", [{"b64": 5}]]}',
            in_row(1, 'JSON Value: {\n    "b64": 5\n} not formatted correctly for base64 data'),
        ),
        (
            '{"signature_name": "half", "instances": [1]}',
            "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
            "Conversion of JSON Value: 1 to type: half",
        ),
    ],
)
def test_refusals_are_tensorflow_servings(body, sentence):
    assert refusal(body.encode()).status == f"INVALID_ARGUMENT: {sentence}"


@pytest.mark.parametrize("wrong", [0, 1, 1023, 4999])
def test_the_first_wrong_one_of_many_instances_is_named(wrong):
    plain = ["[1, 2]"] * 5000
    plain[wrong] = "[1, null]"
    sentence = in_row(wrong, "JSON Value: null Type: Null is not of expected type: float")
    assert refusal(f'{{"instances": [{", ".join(plain)}, "x"]}}'.encode()).message == sentence
    objects = [f'{{"x": {item}}}' for item in plain]
    sentence = in_row(wrong, "JSON Value: null Type: Null is not of expected type: float", " key: x")
    assert refusal(f'{{"instances": [{", ".join(objects)}, {{}}]}}'.encode()).message == sentence


def test_a_dtype_without_json_keeps_its_own_code_in_columnar_form():
    error = refusal(b'{"signature_name": "half", "inputs": [1]}')
    assert error.status == "UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half"


def test_the_first_of_several_inputs_takes_base64_objects():
    signatures = {"serving_default": signature(t=DataType.DT_STRING, u=DataType.DT_STRING)}
    assert decode(b'{"instances": [{"b64": "aGk="}]}', signatures).inputs.keys() == {"t"}


def test_a_signature_without_name_is_called_default():
    error = refusal(b'{"instances": [1]}', {"serving_default": signature()})
    assert error.message == "Failed to get input map for signature: DEFAULT"


def test_the_model_is_asked_for_after_the_body_is_json_and_before_its_keys_count():
    asked = []

    def no_model(name):
        asked.append(name)
        raise NotFound("Servable not found for request: Latest(m)")

    for body in (b"{", b"[]", b'{"signature_name": 1}'):
        with pytest.raises(ServingError) as raised:
            decode_predict(body, no_model)
        assert raised.value.code is Code.INVALID_ARGUMENT
    assert asked == []
    for body in (b"{}", b'{"signature_name": "s"}', b'{"instances": [1], "signature_name": "s"}'):
        with pytest.raises(NotFound):
            decode_predict(body, no_model)
    assert asked == ["", "s", "s"]


@pytest.mark.parametrize("depth", [65, 1500])
def test_more_dimensions_than_arrays_have_are_refused(depth):
    body = b'{"instances": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
    assert refusal(body).status.startswith("INVALID_ARGUMENT: tensor parsing error: ")


@pytest.mark.slow
def test_half_a_million_lists_are_refused_as_others_are():
    deep = b"[" * 500_000 + b"]" * 500_000
    error = refusal(b'{"signature_name": ' + deep + b"}")
    assert error.message.endswith(" not formatted correctly. 'signature_name' key must be a string value.")
    assert decode(b'{"unused": ' + deep + b', "instances": [1]}').inputs["x"].tolist() == [1]


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_any_buffer_is_read(buffer):
    assert decode(buffer(b'{"instances": [1]}')).inputs["x"].tolist() == [1]
