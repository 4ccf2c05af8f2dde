"""The codec beside TensorFlow: `tf.io.parse_tensor` runs the C++ that a TensorFlow Serving request goes through."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving import protos
from pyserving.codec.tensor_proto import decode, encode_into
from pyserving.signature import DataType

pytestmark = pytest.mark.slow

ARRAY_TYPES = [data_type for data_type in DataType if data_type.numpy is not None]
INT32, FLOAT = st.integers(-(2**31), 2**31 - 1), st.floats(width=32)
VALUES = {
    "float_val": FLOAT,
    "double_val": st.floats(),
    "int_val": INT32 | st.integers(-130, 260),
    "string_val": st.binary(max_size=6),
    "scomplex_val": FLOAT,
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "bool_val": st.booleans(),
    "dcomplex_val": st.floats(),
    "half_val": INT32 | st.integers(0, 2**16 - 1),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
    "float8_val": st.binary(max_size=8),
}
FIELDS = {
    "FLOAT": "float_val",
    "DOUBLE": "double_val",
    "STRING": "string_val",
    "COMPLEX64": "scomplex_val",
    "COMPLEX128": "dcomplex_val",
    "INT64": "int64_val",
    "UINT32": "uint32_val",
    "UINT64": "uint64_val",
    "BOOL": "bool_val",
    "HALF": "half_val",
    "BFLOAT16": "half_val",
}


@pytest.fixture(scope="module")
def tf():
    import tensorflow

    return tensorflow


def field_of(data_type):
    name = data_type.name.removeprefix("DT_")
    return "float8_val" if name.startswith("FLOAT8") else FIELDS.get(name, "int_val")


@st.composite
def tensor_protos(draw, data_type):
    """Tensors that hold about as much as their shape asks for, as typed values or as content, now and then neither."""
    tensor = protos.TensorProto(dtype=data_type)
    shape = draw(st.lists(st.integers(0, 3) | st.just(-1), max_size=3) | st.lists(st.integers(1, 3), max_size=3))
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_shape.unknown_rank = draw(st.booleans() if not shape else st.just(False))
    field = draw(st.sampled_from([*[field_of(data_type)] * 4, *VALUES]))
    if field == "float8_val":
        tensor.float8_val = draw(VALUES[field])
    else:
        getattr(tensor, field).extend(draw(st.lists(VALUES[field], max_size=8)))
    if draw(st.booleans()):
        fitting = int(np.prod(shape, dtype=int)) * data_type.numpy.itemsize
        size = draw(st.just(max(fitting, 0)) | st.integers(0, 24))
        highest = 1 if data_type is DataType.DT_BOOL and draw(st.booleans()) else 255
        tensor.tensor_content = bytes(draw(st.lists(st.integers(0, highest), min_size=size, max_size=size)))
    return tensor


@st.composite
def string_contents(draw):
    strings = draw(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
    lengths = draw(st.sampled_from([b"", b"\x80"])) + bytes(min(len(string), 127) for string in strings)
    tensor = protos.TensorProto(dtype=DataType.DT_STRING, tensor_content=lengths + b"".join(strings))
    tensor.tensor_shape.dim.add(size=len(strings))
    return tensor


def some_array(data_type, shape):
    random = np.random.default_rng(1)
    count = int(np.prod(shape))
    if data_type is DataType.DT_STRING:
        return np.fromiter((random.bytes(i * 7) for i in range(count)), object, count).reshape(shape)
    if data_type is DataType.DT_BOOL:
        return random.integers(0, 2, shape).astype(bool)
    return np.frombuffer(random.bytes(count * data_type.numpy.itemsize), data_type.numpy).reshape(shape)


def parsed(tf, tensor):
    """What TensorFlow reads, or None where it refuses."""
    try:
        array = tf.io.parse_tensor(tensor.SerializeToString(), tf.dtypes.as_dtype(tensor.dtype)).numpy()
    except tf.errors.InvalidArgumentError:
        return None
    return np.array(array, object) if isinstance(array, bytes) else array  # a string alone comes as bytes


def decoded(tensor):
    try:
        return decode(tensor)
    except ValueError:
        return None


def same(ours, theirs):
    if ours is None or theirs is None:
        return ours is theirs
    if ours.dtype.names:  # TensorFlow gives quantized numbers as plain integers
        ours = ours.view(theirs.dtype)
    if ours.dtype == object:
        return ours.shape == theirs.shape and ours.tolist() == theirs.tolist()
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    if ours.dtype.name in ("int4", "uint4", "int2", "uint2"):  # upper bits mean nothing
        return ours.astype(np.int8).tolist() == theirs.astype(np.int8).tolist()
    return ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("data_type", ARRAY_TYPES, ids=lambda data_type: data_type.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reads_what_tensorflow_reads_and_refuses_what_it_refuses(tf, data_type, data):
    tensor = data.draw(tensor_protos(data_type))
    assert same(decoded(tensor), parsed(tf, tensor))


@settings(max_examples=200, deadline=None)
@given(tensor=string_contents())
def test_reads_the_strings_in_content_that_tensorflow_reads(tf, tensor):
    assert same(decoded(tensor), parsed(tf, tensor))


@pytest.mark.parametrize("shape", [(0, 3), (), (1,), (2, 3), (40, 5)], ids=str)
@pytest.mark.parametrize("data_type", ARRAY_TYPES, ids=lambda data_type: data_type.name)
def test_writes_what_tensorflow_reads(tf, data_type, shape):
    array = some_array(data_type, shape)
    for as_content in (False, True):
        tensor = protos.TensorProto()
        encode_into(array, tensor, as_content=as_content)
        assert same(array, parsed(tf, tensor))


@pytest.mark.parametrize(
    "data_type",
    [data_type for data_type in ARRAY_TYPES if not data_type.name.endswith("FNUZ")],  # make_ndarray has no such types
    ids=lambda data_type: data_type.name,
)
def test_writes_what_make_ndarray_reads(tf, data_type):
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    array = some_array(data_type, (3, 4))
    tensor = protos.TensorProto()
    encode_into(array, tensor)
    assert same(array, tf.make_ndarray(TensorProto.FromString(tensor.SerializeToString())))
