"""PredictResponses as bytes, beside protobuf's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.predict_response import Template, encode
from pyserving.codec.tensor_proto import encode_into
from pyserving.signature import DataType
from pyserving.types import ServableId
from tests.codec.arrays import ARRAY_TYPES, SHAPES, some_array

ID = ServableId("m", 7)


def by_protobuf(outputs: dict[str, np.ndarray], as_content: bool) -> protos.PredictResponse:
    response = protos.PredictResponse()
    for alias, array in outputs.items():
        encode_into(array, response.outputs[alias], as_content=as_content)
    model_spec.encode_into(response.model_spec, ID, "serving_default")
    return response


def canonical(response: protos.PredictResponse) -> bytes:
    """Compares equal where a NaN would not."""
    return response.SerializeToString(deterministic=True)


@pytest.mark.parametrize("as_content", [False, True], ids=["typed", "content"])
@settings(max_examples=150, deadline=None)
@given(
    outputs=st.dictionaries(
        st.text(max_size=3) | st.just("a" * 200),
        st.tuples(st.sampled_from(ARRAY_TYPES), SHAPES, st.integers(0, 2**32 - 1)),
        max_size=4,
    )
)
def test_writes_the_message_that_protobuf_writes(
    as_content: bool, outputs: dict[str, tuple[DataType, tuple[int, ...], int]]
) -> None:
    arrays = {alias: some_array(*described) for alias, described in outputs.items()}
    written = protos.PredictResponse.FromString(encode(ID, "serving_default", arrays, as_content=as_content))
    assert canonical(written) == canonical(by_protobuf(arrays, as_content))


@pytest.mark.parametrize("as_content", [False, True], ids=["typed", "content"])
@pytest.mark.parametrize("data_type", ARRAY_TYPES, ids=lambda data_type: data_type.name)
def test_writes_many_elements(data_type: DataType, as_content: bool) -> None:
    arrays = {"y": some_array(data_type, (70, 90)), "rows": some_array(data_type, (90, 70)).T}
    written = protos.PredictResponse.FromString(encode(ID, "serving_default", arrays, as_content=as_content))
    assert canonical(written) == canonical(by_protobuf(arrays, as_content))


def test_says_nothing_of_a_signature_without_a_name() -> None:
    written = protos.PredictResponse.FromString(encode(ID, "", {}))
    assert (written.model_spec.name, written.model_spec.version.value) == ("m", 7)
    assert written.model_spec.signature_name == ""
    assert not written.outputs


def test_refuses_an_array_without_a_tensorflow_type() -> None:
    with pytest.raises(ValueError, match="no type for arrays of datetime64"):
        encode(ID, "serving_default", {"y": np.array(["2020-01-01"], np.datetime64)})


@pytest.mark.parametrize("as_content", [False, True], ids=["typed", "content"])
@settings(max_examples=100, deadline=None)
@given(
    aliases=st.lists(st.text(max_size=3), max_size=3, unique=True),
    described=st.lists(
        st.lists(st.tuples(st.sampled_from(ARRAY_TYPES), SHAPES, st.integers(0, 2**32 - 1)), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    ),
)
def test_a_template_writes_each_answer_as_if_it_were_the_only_one(
    as_content: bool, aliases: list[str], described: list[list[tuple[DataType, tuple[int, ...], int]]]
) -> None:
    template = Template(ID, "serving_default", aliases, as_content=as_content)
    for each in described:
        outputs = [some_array(*one) for one, _ in zip(each, aliases, strict=False)]
        expected = encode(ID, "serving_default", dict(zip(aliases, outputs, strict=True)), as_content=as_content)
        assert template.encode(outputs) == expected


@pytest.mark.parametrize("array", [np.zeros((70, 90), np.float32), np.arange(12.0).reshape(3, 4).T])
def test_a_template_writes_large_and_unusual_arrays_too(array: np.ndarray) -> None:
    template = Template(ID, "", ["a", "b"])
    small = np.ones(2, np.float32)
    for _ in range(2):
        assert template.encode([small, array]) == encode(ID, "", {"a": small, "b": array})
        assert template.encode([small, small]) == encode(ID, "", {"a": small, "b": small})
