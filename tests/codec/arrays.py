"""Arrays of every type that TensorFlow has, with any bits."""

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from pyserving.signature import DataType

ARRAY_TYPES = [data_type for data_type in DataType if data_type.numpy is not None]
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


def some_array(data_type, shape, seed=0):
    """Any bits at all, but for strings and booleans, and but one NaN: some protobufs make a signaling one quiet."""
    random = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if data_type is DataType.DT_STRING:
        return np.fromiter((random.bytes(i * 70 % 300) for i in range(count)), object, count).reshape(shape)
    if data_type is DataType.DT_BOOL:
        return random.integers(0, 2, shape).astype(bool)
    array = np.frombuffer(random.bytes(count * data_type.numpy.itemsize), data_type.numpy).reshape(shape)
    return np.where(np.isnan(array), array.dtype.type(np.nan), array) if array.dtype.kind in "fc" else array


def bits(array):
    """Elements as something that compares equal when the element is the same, NaN included."""
    if array.dtype in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2):
        return array.astype(np.int8).tolist()  # upper bits mean nothing
    return array.tolist() if array.dtype == object else array.tobytes()
