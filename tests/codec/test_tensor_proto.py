import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving import protos
from pyserving.codec.tensor_proto import TensorProtoInputs, decode, encode_into
from pyserving.errors import InvalidArgument
from pyserving.signature import DataType
from tests.codec.arrays import ARRAY_TYPES, SHAPES, bits, some_array


def tensor_proto(data_type, shape=(), **values):
    tensor = protos.TensorProto(dtype=data_type, **values)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def encoded(array, as_content=False):
    tensor = protos.TensorProto()
    encode_into(array, tensor, as_content=as_content)
    return protos.TensorProto.FromString(tensor.SerializeToString())


class TestDecode:
    def test_reads_typed_values_in_shape(self):
        array = decode(tensor_proto(DataType.DT_FLOAT, (2, 2), float_val=[1, 2, 3, 4]))
        assert array.dtype == np.float32
        assert array.tolist() == [[1, 2], [3, 4]]

    def test_reads_content_without_copying_it(self):
        array = decode(tensor_proto(DataType.DT_INT32, (2,), tensor_content=np.int32([7, -8]).tobytes()))
        assert array.tolist() == [7, -8]
        assert not array.flags.owndata

    def test_prefers_content_to_typed_values(self):
        tensor = tensor_proto(DataType.DT_UINT8, (1,), tensor_content=b"\x05", int_val=[6])
        assert decode(tensor).tolist() == [5]

    @pytest.mark.parametrize(
        ("given_values", "read"),
        [([1, 2], [1, 2, 2]), ([9], [9, 9, 9]), ([], [0, 0, 0]), ([1, 2, 3, 4], [1, 2, 3])],
        ids=["too few", "one", "none", "too many"],
    )
    def test_fits_values_to_the_shape(self, given_values, read):
        assert decode(tensor_proto(DataType.DT_INT64, (3,), int64_val=given_values)).tolist() == read

    def test_repeats_the_last_string(self):
        array = decode(tensor_proto(DataType.DT_STRING, (2, 2), string_val=[b"a", b"\x00\xff\x00"]))
        assert array.tolist() == [[b"a", b"\x00\xff\x00"], [b"\x00\xff\x00", b"\x00\xff\x00"]]

    def test_reads_missing_strings_as_empty_ones(self):
        assert decode(tensor_proto(DataType.DT_STRING, (2,))).tolist() == [b"", b""]

    def test_reads_zeros_from_the_wrong_field(self):
        assert decode(tensor_proto(DataType.DT_FLOAT, (2,), double_val=[1, 2])).tolist() == [0, 0]

    def test_ignores_half_a_complex_number(self):
        array = decode(tensor_proto(DataType.DT_COMPLEX64, (2,), scomplex_val=[1, 2, 3]))
        assert array.tolist() == [1 + 2j, 1 + 2j]
        assert decode(tensor_proto(DataType.DT_COMPLEX64, (1,), scomplex_val=[1])).tolist() == [0]

    def test_cuts_integers_to_their_width(self):
        assert decode(tensor_proto(DataType.DT_UINT8, (2,), int_val=[-1, 300])).tolist() == [255, 44]
        assert decode(tensor_proto(DataType.DT_HALF, (1,), half_val=[0x13C00])).tolist() == [1.0]

    def test_reads_a_scalar_when_no_shape_is_given(self):
        assert decode(protos.TensorProto(dtype=DataType.DT_DOUBLE, double_val=[1.5, 2.5])).shape == ()

    def test_reads_an_unknown_rank_as_a_scalar(self):
        tensor = protos.TensorProto(dtype=DataType.DT_BOOL, tensor_shape={"unknown_rank": True}, bool_val=[True])
        assert decode(tensor).tolist() is True

    def test_reads_nothing_into_an_empty_shape(self):
        array = decode(tensor_proto(DataType.DT_FLOAT, (3, 0, 2), float_val=[1], tensor_content=b"xyz"))
        assert array.shape == (3, 0, 2)
        assert array.dtype == np.float32

    def test_reads_strings_from_content(self):
        long = b"x" * 300
        content = b"\x02\x00\xac\x02" + b"ab" + long
        assert decode(tensor_proto(DataType.DT_STRING, (3,), tensor_content=content)).tolist() == [b"ab", b"", long]

    @pytest.mark.parametrize("data_type", ["DT_INVALID", "DT_RESOURCE", "DT_VARIANT", "DT_FLOAT_REF", "no such type"])
    def test_refuses_a_type_that_no_array_has(self, data_type):
        number = 1000 if data_type == "no such type" else protos.DataType.Value(data_type)
        with pytest.raises(ValueError, match="dtype"):
            decode(tensor_proto(number, (0,)))

    @pytest.mark.parametrize(
        "tensor",
        [
            tensor_proto(DataType.DT_FLOAT, (-1,), float_val=[1]),
            tensor_proto(DataType.DT_FLOAT, (0, -2)),
            tensor_proto(DataType.DT_FLOAT, (1,) * 255, float_val=[1]),
            tensor_proto(DataType.DT_FLOAT, (2,), tensor_content=b"1234567"),
            tensor_proto(DataType.DT_FLOAT, (2,), tensor_content=b"123456789"),
            tensor_proto(DataType.DT_BOOL, (2,), tensor_content=b"\x00\x02"),
            tensor_proto(DataType.DT_STRING, (2,), tensor_content=b"\x01\x01a"),
            tensor_proto(DataType.DT_STRING, (2,), tensor_content=b"\x01\x00ab"),
            tensor_proto(DataType.DT_STRING, (2,), tensor_content=b"\x00"),
            tensor_proto(DataType.DT_STRING, (1,), tensor_content=b"\x80\x80\x80\x80\x80\x00"),
        ],
        ids=[
            "open dimension",
            "negative dimension",
            "too many dimensions",
            "short content",
            "long content",
            "neither true nor false",
            "short strings",
            "strings with a rest",
            "too few lengths",
            "endless length",
        ],
    )
    def test_refuses_what_cannot_be_meant(self, tensor):
        with pytest.raises(ValueError, match=r"dimension|content"):
            decode(tensor)

    @pytest.mark.parametrize(
        "tensor",
        [
            tensor_proto(DataType.DT_FLOAT, (2**40,)),
            tensor_proto(DataType.DT_FLOAT, (2**62, 2**62)),
            tensor_proto(DataType.DT_INT8, (2**30, 2), int_val=[1]),
            tensor_proto(DataType.DT_STRING, (2**28,)),
            tensor_proto(DataType.DT_STRING, (2**20,), string_val=[b"x" * 2000]),
            tensor_proto(DataType.DT_STRING, (2**40,), tensor_content=b"\x00"),
        ],
        ids=["huge", "beyond 64 bits", "many bytes", "many strings", "long strings", "content"],
    )
    def test_takes_no_memory_for_a_shape_that_is_too_large(self, tensor):
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"takes? more than 1073741824 bytes"):
                decode(tensor)
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()

    def test_takes_what_just_fits(self):
        tensor = tensor_proto(DataType.DT_DOUBLE, (4,), double_val=[1])
        assert decode(tensor, max_bytes=32).tolist() == [1, 1, 1, 1]
        with pytest.raises(ValueError, match="more than 31 bytes"):
            decode(tensor, max_bytes=31)


class TestEncode:
    @pytest.mark.parametrize(
        ("array", "field", "entries"),
        [
            (np.float32([1.5, 2]), "float_val", [1.5, 2]),
            (np.float64([1.5]), "double_val", [1.5]),
            (np.int8([-1]), "int_val", [-1]),
            (np.uint8([200]), "int_val", [200]),
            (np.int16([-300]), "int_val", [-300]),
            (np.uint16([60000]), "int_val", [60000]),
            (np.int32([-70000]), "int_val", [-70000]),
            (np.int64([-(2**40)]), "int64_val", [-(2**40)]),
            (np.uint32([2**32 - 1]), "uint32_val", [2**32 - 1]),
            (np.uint64([2**64 - 1]), "uint64_val", [2**64 - 1]),
            (np.array([True, False]), "bool_val", [True, False]),
            (np.complex64([1 + 2j]), "scomplex_val", [1, 2]),
            (np.complex128([1 + 2j]), "dcomplex_val", [1, 2]),
            (np.float16([1.0]), "half_val", [0x3C00]),
            (np.array([1], ml_dtypes.bfloat16), "half_val", [0x3F80]),
            (np.array([b"a", b"\xff\x00"], object), "string_val", [b"a", b"\xff\x00"]),
            (np.array([-7, 7], ml_dtypes.int4), "int_val", [-7, 7]),
            (np.array([15], ml_dtypes.uint4), "int_val", [15]),
            (np.array([-2], ml_dtypes.int2), "int_val", [-2]),
            (np.array([(-5,)], [("qint8", np.int8)]), "int_val", [-5]),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_writes_one_entry_per_element_in_the_field_of_the_dtype(self, array, field, entries):
        tensor = encoded(array)
        assert [written.name for written, _ in tensor.ListFields()] == ["dtype", "tensor_shape", field]
        assert list(getattr(tensor, field)) == entries

    def test_writes_float8_as_bytes(self):
        assert encoded(np.array([1, 2], ml_dtypes.float8_e5m2)).float8_val == b"\x3c\x40"

    def test_repeats_equal_elements(self):
        assert list(encoded(np.zeros((2, 2), np.float32)).float_val) == [0, 0, 0, 0]

    def test_gives_a_scalar_an_empty_shape(self):
        tensor = encoded(np.array(1.5))
        assert tensor.HasField("tensor_shape")
        assert not tensor.tensor_shape.dim
        assert list(tensor.double_val) == [1.5]

    def test_writes_no_values_for_no_elements(self):
        tensor = encoded(np.zeros((0, 3), np.int32))
        assert [dim.size for dim in tensor.tensor_shape.dim] == [0, 3]
        assert [written.name for written, _ in tensor.ListFields()] == ["dtype", "tensor_shape"]

    def test_writes_rows_first_whatever_the_memory_order(self):
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        assert list(encoded(array.T).float_val) == [0, 3, 1, 4, 2, 5]
        assert list(encoded(array[:, ::2]).float_val) == [0, 2, 3, 5]
        assert encoded(array.T, as_content=True).tensor_content == array.T.copy().tobytes()

    def test_writes_content_instead(self):
        tensor = encoded(np.int16([1, -2]), as_content=True)
        assert tensor.tensor_content == b"\x01\x00\xfe\xff"
        assert not tensor.int_val

    def test_writes_strings_as_content(self):
        assert encoded(np.array([b"ab", b""], object), as_content=True).tensor_content == b"\x02\x00ab"

    def test_refuses_an_array_without_a_tensorflow_type(self):
        with pytest.raises(ValueError, match="no type for arrays of datetime64"):
            encoded(np.array(["2020-01-01"], np.datetime64))


class TestBothWays:
    @pytest.mark.parametrize("as_content", [False, True], ids=["typed", "content"])
    @pytest.mark.parametrize("data_type", ARRAY_TYPES, ids=lambda data_type: data_type.name)
    @settings(max_examples=10, deadline=None)
    @given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
    def test_gives_back_every_bit(self, data_type, as_content, shape, seed):
        array = some_array(data_type, shape, seed)
        back = decode(encoded(array, as_content))
        assert (back.dtype, back.shape, bits(back)) == (array.dtype, array.shape, bits(array))

    @pytest.mark.parametrize("data_type", ARRAY_TYPES, ids=lambda data_type: data_type.name)
    def test_gives_back_many_elements(self, data_type):
        array = some_array(data_type, (200, 3))
        back = decode(encoded(array))
        assert (back.dtype, back.shape, bits(back)) == (array.dtype, array.shape, bits(array))


class TestInputs:
    def request_inputs(self, **tensors):
        request = protos.PredictRequest()
        for alias, tensor in tensors.items():
            request.inputs[alias].CopyFrom(tensor)
        return request.inputs

    def test_names_every_alias_and_decodes_on_demand(self):
        broken = tensor_proto(DataType.DT_FLOAT, (-1,))
        inputs = TensorProtoInputs(self.request_inputs(x=tensor_proto(DataType.DT_INT32, (), int_val=[3]), y=broken))
        assert set(inputs) == {"x", "y"}
        assert len(inputs) == 2
        assert "y" in inputs
        assert inputs["x"].tolist() == 3

    def test_says_which_tensor_cannot_be_read(self):
        inputs = TensorProtoInputs(self.request_inputs(y=tensor_proto(DataType.DT_FLOAT, (-1,))))
        with pytest.raises(InvalidArgument, match=r"^tensor parsing error: y$"):
            inputs["y"]

    def test_asking_for_a_missing_alias_does_not_make_it(self):
        inputs = TensorProtoInputs(self.request_inputs())
        assert "x" not in inputs
        with pytest.raises(KeyError):
            inputs["x"]
        assert list(inputs) == []

    def test_keeps_to_its_limit(self):
        inputs = TensorProtoInputs(self.request_inputs(x=tensor_proto(DataType.DT_FLOAT, (2,))), max_bytes=7)
        with pytest.raises(InvalidArgument, match="tensor parsing error: x"):
            inputs["x"]


def test_what_inputs_expand_to_is_told_before_it_is_taken():
    tensor = protos.TensorProto(dtype=DataType.DT_FLOAT, float_val=[1.0])
    tensor.tensor_shape.dim.add(size=200_000_000)
    strings = protos.TensorProto(dtype=DataType.DT_STRING)
    strings.tensor_shape.dim.add(size=1_000_000)
    refused = protos.TensorProto(dtype=DataType.DT_FLOAT)
    refused.tensor_shape.dim.add(size=2**40)
    inputs = TensorProtoInputs({"a": tensor, "b": strings, "c": refused})
    assert inputs.num_expanded_bytes() == 800_000_000 + 32_000_000


def test_a_string_counts_as_what_tensorflow_takes_for_it():
    tensor = protos.TensorProto(dtype=DataType.DT_STRING)
    tensor.tensor_shape.dim.add(size=100)
    assert decode(tensor, max_bytes=3200).shape == (100,)
    with pytest.raises(ValueError, match="takes more than 3199 bytes"):
        decode(tensor, max_bytes=3199)
