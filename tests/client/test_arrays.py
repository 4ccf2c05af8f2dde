"""Python's values as the arrays that a signature wants: nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pyserving.client.arrays import as_array
from pyserving.errors import InvalidArgument
from pyserving.signature import DataType


@pytest.mark.parametrize(
    ("value", "data_type", "wanted"),
    [
        ([1, 2.5], DataType.DT_FLOAT, np.array([1, 2.5], np.float32)),
        ([[1], [2]], DataType.DT_INT64, np.array([[1], [2]], np.int64)),
        (7, DataType.DT_UINT8, np.array(7, np.uint8)),
        (1 << 63, DataType.DT_UINT64, np.array(1 << 63, np.uint64)),
        ([True], DataType.DT_BOOL, np.array([True])),
        ([1.5], DataType.DT_BFLOAT16, np.array([1.5], ml_dtypes.bfloat16)),
        ([ml_dtypes.bfloat16(1.5)], DataType.DT_FLOAT, np.array([1.5], np.float32)),
        ([3], DataType.DT_INT4, np.array([3], ml_dtypes.int4)),
        ([1, 1j], DataType.DT_COMPLEX64, np.array([1, 1j], np.complex64)),
        ([], DataType.DT_INT32, np.array([], np.int32)),
        ([[], []], DataType.DT_BOOL, np.zeros((2, 0), np.bool_)),
        ("ä", DataType.DT_STRING, np.array("ä".encode(), object)),
        ([3], None, np.array([3])),
    ],
)
def test_values_become_arrays_of_the_type(value: Any, data_type: DataType | None, wanted: np.ndarray) -> None:
    array = as_array(value, data_type)
    assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape)
    assert array.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("value", "data_type", "sentence"),
    [
        ([1.5], DataType.DT_INT32, "[1.5] makes no array of int32: it holds floats"),
        ([True], DataType.DT_INT32, "[True] makes no array of int32: it holds booleans"),
        (["1"], DataType.DT_FLOAT, "['1'] makes no array of float: it holds texts"),
        ([b"1"], DataType.DT_INT64, "[b'1'] makes no array of int64: it holds bytes"),
        ([2], DataType.DT_BOOL, "[2] makes no array of bool: it holds integers"),
        ([1j], DataType.DT_DOUBLE, "[1j] makes no array of double: it holds complex numbers"),
        ([None], DataType.DT_FLOAT, "[None] makes no array of float: it holds what is no number"),
        ([1 << 70], DataType.DT_INT64, f"[{1 << 70}] makes no array of int64: it holds what is no number"),
        (np.zeros(1, "M8[s]"), None, "No tensor holds datetime64[s]"),
    ],
)
def test_what_would_be_changed_on_the_way_is_refused(value: Any, data_type: DataType | None, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        as_array(value, data_type)
    assert caught.value.message == sentence


def test_integers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^\[300\] makes no array of uint8: "):
        as_array([300], DataType.DT_UINT8)
