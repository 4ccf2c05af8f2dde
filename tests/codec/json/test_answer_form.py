"""Answers by their form against answers written one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pyserving.codec.json.answer_form import answer_form
from pyserving.codec.json.number_text import NonFinite
from pyserving.codec.json.predict import Format, encode_predict
from pyserving.errors import ServingError

DTYPES = st.sampled_from([np.float32, np.float64, np.int32, np.uint64, np.bool_])


@st.composite
def two_outputs(draw):
    """Outputs of some names, and others of the same shapes and types."""
    names = draw(st.lists(st.sampled_from(["y", "%s", "a%", 'é"', "7000000000000000000"]), min_size=1, unique=True))
    kinds = {name: (draw(DTYPES), draw(array_shapes(max_dims=3, max_side=3))) for name in names}
    return tuple({name: draw(arrays(*kind)) for name, kind in kinds.items()} for _ in range(2))


@settings(max_examples=300, deadline=None)
@given(two_outputs(), st.sampled_from(Format), st.sampled_from(NonFinite))
def test_it_writes_what_is_written_without_it(outputs, format, nonfinite):
    first, second = outputs
    try:
        encode_predict(first, format, nonfinite=nonfinite)
    except ServingError:  # no common number of rows
        return
    form = answer_form(first, format, nonfinite=nonfinite)
    if form is not None:
        written = form.encode(list(second.values()))
        assert written == encode_predict(second, format, nonfinite=nonfinite)


@pytest.mark.parametrize("other", [np.float32([1]), np.float32([[1, 2]]), np.float64([1, 2])])
def test_outputs_of_another_kind_are_left_to_others(other):
    form = answer_form({"y": np.float32([1, 2])}, Format.ROW)
    assert form.encode([np.float32([3, 4])]) == b'{\n    "predictions": [3.0, 4.0\n    ]\n}'
    assert form.encode([other]) is None


@pytest.mark.parametrize(
    "output", [np.zeros(65, np.float32), np.array([b"a"], object), np.float16([1]), np.zeros((1, 0), np.float32)]
)
def test_not_every_answer_has_a_form(output):
    assert answer_form({"y": output}, Format.COLUMNAR) is None
