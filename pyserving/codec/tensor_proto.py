"""TensorProto to ndarray and back, by the rules of TensorFlow's C++ (tensorflow/core/framework/tensor.cc)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from pyserving import protos
from pyserving.errors import InvalidArgument
from pyserving.signature import DataType

MAX_DIMENSIONS = 254
"""Of a TensorShape in C++."""
_NUMPY_MAX_DIMENSIONS = 32
"""Of the oldest NumPy; later ones go to 64."""
DEFAULT_MAX_BYTES = 1 << 30
"""A few bytes can declare any shape; arrays beyond this are refused before memory is taken."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A typed field of TensorProto."""

    name: str
    entry: np.dtype
    tag: bytes = b""
    """Set where the packed field is, on the wire, the entries' own bytes: it is then written without a list between."""


_FLOAT = _Field("float_val", np.dtype(np.float32), b"\x2a")
_DOUBLE = _Field("double_val", np.dtype(np.float64), b"\x32")
_INT = _Field("int_val", np.dtype(np.int32))
_STRING = _Field("string_val", np.dtype(object))
_SCOMPLEX = _Field("scomplex_val", np.dtype(np.float32), b"\x4a")
_INT64 = _Field("int64_val", np.dtype(np.int64))
_BOOL = _Field("bool_val", np.dtype(np.bool_), b"\x5a")
_DCOMPLEX = _Field("dcomplex_val", np.dtype(np.float64), b"\x62")
_HALF = _Field("half_val", np.dtype(np.int32))
_UINT32 = _Field("uint32_val", np.dtype(np.uint32))
_UINT64 = _Field("uint64_val", np.dtype(np.uint64))
_FLOAT8 = _Field("float8_val", np.dtype(np.uint8), b"\x92\x01")  # one bytes value, not repeated
_BYTES_PER_STRING = 32
_CONTENT_TAG = b"\x22"


@dataclass(frozen=True, slots=True)
class _Layout:
    """How elements of one data type lie in a typed field."""

    data_type: DataType
    dtype: np.dtype
    field: _Field
    carrier: np.dtype
    """Has the element's bits (complex: each part's) and converts from and to the field's entries."""


def _layout(data_type: DataType, field: _Field, carrier: type | None = None) -> tuple[int, _Layout]:
    dtype = data_type.numpy
    assert dtype is not None  # only types that arrays can hold stand below
    return int(data_type), _Layout(data_type, dtype, field, np.dtype(carrier) if carrier else field.entry)


_LAYOUTS: dict[int, _Layout] = dict(
    [
        _layout(DataType.DT_FLOAT, _FLOAT),
        _layout(DataType.DT_DOUBLE, _DOUBLE),
        _layout(DataType.DT_INT32, _INT),
        _layout(DataType.DT_UINT8, _INT, np.uint8),
        _layout(DataType.DT_INT16, _INT, np.int16),
        _layout(DataType.DT_INT8, _INT, np.int8),
        _layout(DataType.DT_STRING, _STRING),
        _layout(DataType.DT_COMPLEX64, _SCOMPLEX),
        _layout(DataType.DT_INT64, _INT64),
        _layout(DataType.DT_BOOL, _BOOL),
        _layout(DataType.DT_QINT8, _INT, np.int8),
        _layout(DataType.DT_QUINT8, _INT, np.uint8),
        _layout(DataType.DT_QINT32, _INT),
        _layout(DataType.DT_BFLOAT16, _HALF, np.uint16),
        _layout(DataType.DT_QINT16, _INT, np.int16),
        _layout(DataType.DT_QUINT16, _INT, np.uint16),
        _layout(DataType.DT_UINT16, _INT, np.uint16),
        _layout(DataType.DT_COMPLEX128, _DCOMPLEX),
        _layout(DataType.DT_HALF, _HALF, np.uint16),
        _layout(DataType.DT_UINT32, _UINT32),
        _layout(DataType.DT_UINT64, _UINT64),
        _layout(DataType.DT_FLOAT8_E5M2, _FLOAT8),
        _layout(DataType.DT_FLOAT8_E4M3FN, _FLOAT8),
        _layout(DataType.DT_FLOAT8_E4M3FNUZ, _FLOAT8),
        _layout(DataType.DT_FLOAT8_E4M3B11FNUZ, _FLOAT8),
        _layout(DataType.DT_FLOAT8_E5M2FNUZ, _FLOAT8),
        _layout(DataType.DT_INT4, _INT, np.int8),
        _layout(DataType.DT_UINT4, _INT, np.uint8),
        _layout(DataType.DT_INT2, _INT, np.int8),
        _layout(DataType.DT_UINT2, _INT, np.uint8),
    ]
)

_LAYOUTS_BY_DTYPE = {layout.dtype: layout for layout in _LAYOUTS.values()}

WIRE_TAGS = frozenset({_CONTENT_TAG, *(layout.field.tag for layout in _LAYOUTS.values() if layout.field.tag)})
"""Tags of the fields that can hold, on the wire, an array's own bytes."""

_NARROW = {DataType.DT_INT4, DataType.DT_UINT4, DataType.DT_INT2, DataType.DT_UINT2}
"""One to a byte, whose upper bits mean nothing."""


def decode(tensor: protos.TensorProto, *, max_bytes: int = DEFAULT_MAX_BYTES) -> np.ndarray:
    """The array that a TensorProto stands for; read-only when it comes from tensor_content.

    Strings are an object array of bytes. As in C++: too few values repeat the last one, none at all are zeros, more
    than fit are ignored, and an unknown rank without dimensions is a scalar. ValueError for what C++ refuses (no or a
    non-array dtype, a negative dimension, content of another length), for arrays larger than `max_bytes`, and for
    shapes that NumPy has not (it ends at 64 dimensions, 32 before NumPy 2).
    """
    layout, shape = _layout_and_shape(tensor, max_bytes)
    count = prod(shape)
    if count == 0:
        return np.empty(shape, layout.dtype)
    content = tensor.tensor_content
    if content:
        return _from_content(content, layout, count).reshape(shape)
    return _from_field(tensor, layout, count, max_bytes).reshape(shape)


def _element_bytes(layout: _Layout) -> int:
    """What an element takes here and, for a string, again in TensorFlow, where an empty one is 24 bytes."""
    return _BYTES_PER_STRING if layout.field is _STRING else layout.dtype.itemsize


def elements_as_they_lie(
    tensor: protos.TensorProto, tag: bytes, size: int, max_bytes: int
) -> tuple[np.dtype, tuple[int, ...]] | None:
    """The dtype and shape of the array that `size` bytes on the wire already are, or None when they must be decoded.

    The bytes are those of the field with `tag`, one of WIRE_TAGS, and `tensor` is all else. Booleans may still be bytes
    that are neither true nor false.
    """
    try:
        layout, shape = _layout_and_shape(tensor, max_bytes)
    except ValueError:
        return None
    is_field_of_dtype = tag in (_CONTENT_TAG, layout.field.tag) and not layout.dtype.hasobject
    if not is_field_of_dtype or size != prod(shape) * layout.dtype.itemsize or len(shape) > _NUMPY_MAX_DIMENSIONS:
        return None
    return layout.dtype, tuple(shape)


def _layout_and_shape(tensor: protos.TensorProto, max_bytes: int) -> tuple[_Layout, list[int]]:
    layout = _LAYOUTS.get(tensor.dtype)
    if layout is None:
        raise ValueError(f"no array has dtype {tensor.dtype}")
    shape = _shape(tensor.tensor_shape)
    if prod(shape) * _element_bytes(layout) > max_bytes:
        raise ValueError(f"shape {shape} takes more than {max_bytes} bytes")
    return layout, shape


def _shape(proto: protos.TensorShapeProto) -> list[int]:
    if len(proto.dim) > MAX_DIMENSIONS:
        raise ValueError(f"{len(proto.dim)} dimensions are too many")
    shape = [dim.size for dim in proto.dim]
    if shape and min(shape) < 0:
        raise ValueError(f"shape {shape} has a negative dimension")
    return shape


def _from_content(content: bytes, layout: _Layout, count: int) -> np.ndarray:
    if layout.field is _STRING:
        return _split_strings(content, count)
    if len(content) != count * layout.dtype.itemsize:
        raise ValueError(f"tensor_content has {len(content)} bytes for {count} elements")
    if layout.field is _BOOL and np.frombuffer(content, np.uint8).max() > 1:
        raise ValueError("tensor_content has bytes that are neither true nor false")
    return np.frombuffer(content, layout.dtype)


def _split_strings(content: bytes, count: int) -> np.ndarray:
    """Content of strings: the lengths of all as varints, then the bytes of all (tensor_coding.cc)."""
    lengths: list[int] = []
    start = 0
    while len(lengths) < count:
        length, start = _varint(content, start)
        lengths.append(length)
    if sum(lengths) != len(content) - start:
        raise ValueError("tensor_content does not have the length that its strings add up to")
    strings = np.empty(count, object)
    for index, length in enumerate(lengths):
        strings[index] = content[start : start + length]
        start += length
    return strings


def _varint(content: bytes, start: int) -> tuple[int, int]:
    """A 32-bit varint and where it ends."""
    value = 0
    for shift, byte in zip(range(0, 35, 7), content[start : start + 5], strict=False):
        value |= (byte & 0x7F) << shift
        start += 1
        if byte < 0x80:
            return value & 0xFFFFFFFF, start
    raise ValueError("tensor_content ends within a string's length")


def _from_field(tensor: protos.TensorProto, layout: _Layout, count: int, max_bytes: int) -> np.ndarray:
    field = layout.field
    given = getattr(tensor, field.name)
    entries = np.frombuffer(given, field.entry) if field is _FLOAT8 else _entries(given, field.entry)
    if layout.dtype.kind == "c":
        entries = entries[: len(entries) & ~1]  # half a number is none
    values = entries.astype(layout.carrier, copy=False).view(layout.dtype)
    if len(values) < count:
        return _repeat_last(values, count, max_bytes)
    return values[:count]


def _entries(given: Sequence[object], entry: np.dtype) -> np.ndarray:
    # Measured: protobuf 7 hands numbers over in one copy, which pays from some fifty entries on.
    if len(given) < 64 or entry.hasobject:
        return np.fromiter(given, entry, len(given))
    return np.array(given, entry)


def _repeat_last(values: np.ndarray, count: int, max_bytes: int) -> np.ndarray:
    if values.dtype.hasobject:
        last = values[-1] if len(values) else b""
        if (count - len(values)) * len(last) > max_bytes:
            raise ValueError(f"{count} strings take more than {max_bytes} bytes")
        fill = np.array(last, object)
    else:
        fill = values[-1:] if len(values) else np.zeros(1, values.dtype)
    repeated = np.empty(count, values.dtype)
    repeated[: len(values)] = values
    repeated[len(values) :] = fill
    return repeated


def encode_into(array: np.ndarray, tensor: protos.TensorProto, *, as_content: bool = False) -> None:
    """Write an array into an empty TensorProto as TensorFlow Serving's answers have it (predict_util.cc).

    One entry per element in the typed field of its dtype, nothing compacted; or, `as_content`, raw little-endian bytes
    (strings: their lengths as varints, then their bytes). The shape is always there. ValueError for an array that
    TensorFlow has no type for; object arrays must hold bytes.
    """
    layout = _layout_of(array.dtype)
    tensor.MergeFromString(dtype_and_shape(array.dtype, array.shape))
    elements = array.ravel()
    if layout.field is _STRING:
        _put_strings(elements.tolist(), tensor, as_content)
    elif as_content:
        _merge_bytes(tensor, _CONTENT_TAG, elements)
    elif layout.field.tag:
        _merge_bytes(tensor, layout.field.tag, elements)
    else:
        is_narrow = layout.data_type in _NARROW
        entries = elements.astype(layout.carrier) if is_narrow else elements.view(layout.carrier)
        getattr(tensor, layout.field.name).extend(entries.tolist())


def elements_tag(dtype: np.dtype, *, as_content: bool = False) -> bytes | None:
    """The tag of the field that `encode_into` fills with the array's own bytes; None when it writes them otherwise.

    ValueError for an array type that TensorFlow has no type for.
    """
    field = _layout_of(dtype).field
    if field is _STRING:
        return None
    return _CONTENT_TAG if as_content else field.tag or None


@lru_cache(maxsize=1024)
def dtype_and_shape(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """A serialized TensorProto of these alone: answers of a model have few shapes."""
    tensor = protos.TensorProto(dtype=_layout_of(dtype).data_type)
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor.SerializeToString()


def _layout_of(dtype: np.dtype) -> _Layout:
    try:
        return _LAYOUTS_BY_DTYPE[dtype]
    except KeyError:
        raise ValueError(f"TensorFlow has no type for arrays of {dtype}") from None


def _merge_bytes(tensor: protos.TensorProto, tag: bytes, elements: np.ndarray) -> None:
    """Set a length-delimited field to the elements' bytes, without a Python object for each."""
    payload = elements.view(np.uint8).data
    tensor.MergeFromString(b"".join((tag, encoded_varint(payload.nbytes), payload)))


def _put_strings(strings: list[bytes], tensor: protos.TensorProto, as_content: bool) -> None:
    if as_content:
        tensor.tensor_content = b"".join([*(encoded_varint(len(string)) for string in strings), *strings])
    else:
        tensor.string_val.extend(strings)


def encoded_varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _expanded_bytes(tensor: protos.TensorProto, max_bytes: int) -> int:
    try:
        layout, shape = _layout_and_shape(tensor, max_bytes)
    except ValueError:
        return 0
    return prod(shape) * _element_bytes(layout)


class TensorProtoInputs(Mapping[str, np.ndarray]):
    """The inputs of a PredictRequest, decoded when they are asked for: names are checked before any value is."""

    def __init__(self, inputs: Mapping[str, protos.TensorProto], max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._inputs = inputs
        self._max_bytes = max_bytes

    def __getitem__(self, alias: str) -> np.ndarray:
        """Decodes anew each time. InvalidArgument for a tensor that is no array."""
        tensor = self._inputs.get(alias)  # indexing a map of messages would make what is missing
        if tensor is None:
            raise KeyError(alias)
        try:
            return decode(tensor, max_bytes=self._max_bytes)
        except ValueError as error:
            raise InvalidArgument(f"tensor parsing error: {alias}") from error

    def num_expanded_bytes(self, *, without: Collection[str] = ()) -> int:
        """Roughly what the arrays take together, but for those of a few inputs; what will be refused counts nothing."""
        return sum(
            _expanded_bytes(tensor, self._max_bytes) for alias, tensor in self._inputs.items() if alias not in without
        )

    def __contains__(self, alias: object) -> bool:
        return alias in self._inputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)
