import pytest

from pyserving import protos
from pyserving.codec.json.examples import decode_examples, encode_classify, encode_regress
from pyserving.codec.json.number_text import NonFinite
from pyserving.errors import InvalidArgument


def features(serialized):
    found = {}
    for name, feature in protos.Example.FromString(serialized).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = (kind, list(getattr(feature, kind).value)) if kind else (None, [])
    return found


def test_features_take_the_kind_of_their_first_element():
    body = decode_examples(
        b'{"signature_name": "s", "examples": [{"i": [1, true, -9223372036854775808], "f": [1.5, 2.0], '
        b'"s": ["a\\u0000", {"b64": "aGk="}], "none": [], "one": 1e300, "big": 18446744073709551616}]}'
    )
    (example,) = body.input.example_list.examples
    assert body.signature_name == "s"
    assert features(example) == {
        "i": ("int64_list", [1, 1, -(1 << 63)]),
        "f": ("float_list", [1.5, 2.0]),
        "s": ("bytes_list", [b"a\0", b"hi"]),
        "none": (None, []),
        "one": ("float_list", [float("inf")]),
        "big": ("float_list", [float(1 << 64)]),
    }


def test_a_context_goes_beside_the_examples():
    body = decode_examples(b'{"examples": [{"a": 1}, {}], "context": {"c": "x"}}')
    with_context = body.input.example_list_with_context
    assert body.signature_name == ""
    assert features(with_context.context) == {"c": ("bytes_list", [b"x"])}
    assert [features(example) for example in with_context.examples] == [{"a": ("int64_list", [1])}, {}]


def test_the_last_of_two_features_counts():
    body = decode_examples(b'{"examples": [{"a": 1, "a": [2.0, 3.0]}]}')
    assert features(body.input.example_list.examples[0]) == {"a": ("float_list", [2.0, 3.0])}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("[]", "JSON Value: [] Is not object"),
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        (
            '{"examples": 5}',
            "JSON Value: {\n    \"examples\": 5\n} Expecting 'examples' value to be an list/array",
        ),
        ('{"examples": []}', "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        ('{"examples": [[]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [1], "context": null}', "Example must be JSON object but got JSON Null"),
        ('{"context": "c"}', "Example must be JSON object but got JSON String"),
        ('{"examples": [{"a": [1, 2.0]}]}', "Unexpected element type in feature: a expecting type: int64"),
        ('{"examples": [{"a": [1.0, 2]}]}', "Unexpected element type in feature: a expecting type: float"),
        ('{"examples": [{"a": ["1", 2]}]}', "Unexpected element type in feature: a expecting type: bytes"),
        ('{"examples": [{"a": null}]}', "Feature: a has element with unexpected JSON type: Null"),
        ('{"examples": [{"a": [[1]]}]}', "Feature: a has element with unexpected JSON type: Array"),
        ('{"examples": [{"a": {"b64": 5}}]}', "Feature: a has element with unexpected JSON type: Object"),
        ('{"examples": [{"a": {"b64": "a"}}]}', "Unable to base64 decode"),
        (
            '{"examples": [{"a": 9223372036854775808}]}',
            "Feature: a has uint64_t element. Only int64_t is supported.",
        ),
        (
            '{"signature_name": 1, "examples": [1]}',
            'JSON Value: {\n    "signature_name": 1,\n    "examples": [1]\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
    ],
)
def test_refusals_are_tensorflow_servings(body, sentence):
    with pytest.raises(InvalidArgument) as refusal:
        decode_examples(body.encode())
    assert refusal.value.message == sentence


def test_classes_go_out_as_pairs():
    result = protos.ClassificationResult()
    first = result.classifications.add().classes
    first.add(label="car", score=0.2)
    first.add(label='b"é', score=1 / 3)
    result.classifications.add().classes.add(score=1)
    golden = '{\n    "results": [[["car", 0.2], ["b\\"é", 0.333333343]], [["", 1.0]]\n    ]\n}'
    assert encode_classify(result) == golden.encode()


def test_values_go_out_on_one_line():
    result = protos.RegressionResult()
    for value in (3.5, 4.0, float("nan")):
        result.regressions.add(value=value)
    assert encode_regress(result) == b'{\n    "results": [3.5, 4.0, NaN]\n}'
    assert encode_regress(result, nonfinite=NonFinite.NULL) == b'{\n    "results": [3.5, 4.0, null]\n}'
