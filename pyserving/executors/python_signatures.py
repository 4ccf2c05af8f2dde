"""The `signatures` of a model.py: read and checked at load, and what a run must keep to.

`{"serving_default": {"inputs": {"x": ("float32", [None, 4])}, "outputs": {"y": "int64"}}}`: a tensor is a type that
NumPy knows or `string`, alone or with a shape, in which None is open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from pyserving import protos
from pyserving.errors import Internal, InvalidArgument
from pyserving.signature import PREDICT_METHOD_NAME, DataType, TensorInfo, data_type_of

_SEPARATOR = "/"
_KEYS = {"inputs", "outputs", "method_name"}
assert ml_dtypes, "imported for its types' names: bfloat16 and the like"


def signature_def_map(signatures: Any) -> protos.SignatureDefMap:
    """The protos that stand for `signatures`. Raises InvalidArgument that says which part is wrong."""
    found = protos.SignatureDefMap()
    for name, described in _items(signatures, "signatures"):
        place = f"signatures[{name!r}]"
        parts = dict(_items(described, place))
        if unknown := sorted(parts.keys() - _KEYS):
            raise InvalidArgument(f"{place} has {unknown[0]!r}, which is none of {', '.join(sorted(_KEYS))}")
        signature = found.signature_def[name]
        signature.method_name = str(parts.get("method_name", PREDICT_METHOD_NAME))
        for part, infos in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            for alias, tensor in _items(parts.get(part, {}), f"{place}[{part!r}]"):
                if _SEPARATOR in alias:
                    raise InvalidArgument(f"{place}[{part!r}]: the name {alias!r} must not contain {_SEPARATOR!r}")
                _describe(infos[alias], tensor_name(name, alias), tensor, f"{place}[{part!r}][{alias!r}]")
        if not signature.outputs:
            raise InvalidArgument(f"{place} has no outputs")
    if not found.signature_def:
        raise InvalidArgument("signatures are empty")
    return found


def tensor_name(signature: str, alias: str) -> str:
    """What stands for a graph's tensor in a TensorInfo."""
    return f"{signature}{_SEPARATOR}{alias}:0"


def signature_and_alias(tensor: str) -> tuple[str, str]:
    """The other way; ("", ...) for a name that is no such tensor's."""
    signature, _, alias = tensor.removesuffix(":0").rpartition(_SEPARATOR)
    return signature, alias


def _items(mapping: Any, place: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(mapping, Mapping):
        raise InvalidArgument(f"{place} must be a dict; was {mapping!r}")
    for key, value in mapping.items():
        if not isinstance(key, str) or not key:
            raise InvalidArgument(f"{place} has the key {key!r}, which is no name")
        yield key, value


def _describe(info: Any, name: str, tensor: Any, place: str) -> None:
    dtype, shape = tensor if isinstance(tensor, tuple) and len(tensor) == 2 else (tensor, None)
    info.name, info.dtype = name, int(_data_type(dtype, place))
    if shape is None:
        info.tensor_shape.unknown_rank = True
        return
    for size in _sizes(shape, place):
        info.tensor_shape.dim.add(size=size)


def _data_type(dtype: Any, place: str) -> DataType:
    if dtype in ("string", str, bytes, object):
        return DataType.DT_STRING
    if dtype is None:  # which NumPy takes for float64
        raise InvalidArgument(f"{place}: no tensor has the type None")
    try:
        data_type = data_type_of(np.empty(0, dtype))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{place}: {error}") from None
    if data_type in (DataType.DT_INVALID, DataType.DT_STRING):
        raise InvalidArgument(f"{place}: no tensor has the type {dtype!r}")
    return data_type


def _sizes(shape: Any, place: str) -> list[int]:
    if not isinstance(shape, list | tuple) or not all(
        size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= -1) for size in shape
    ):
        raise InvalidArgument(f"{place}: a shape is a list of sizes, or None where they are open; was {shape!r}")
    return [-1 if size is None else size for size in shape]


def check_shape(alias: str, info: TensorInfo, array: np.ndarray) -> None:
    """Raises InvalidArgument for an input whose shape is not the signature's."""
    if not _fits(array.shape, info.shape):
        raise InvalidArgument(
            f"The input {alias} must have the shape {_shape_text(info.shape or ())}; was {_shape_text(array.shape)}"
        )


def answered(alias: str, info: TensorInfo, value: Any) -> np.ndarray:
    """What a model returned as the array that its signature promises. Raises Internal when it is not one.

    Types that hold all values of what was returned will do, as will any width of floats; text becomes UTF-8.
    """
    try:
        array = np.asarray(value, order="C")
    except Exception as error:  # of whichever library the value is
        raise Internal(f"predict returned {alias}, which makes no array: {error}") from None
    if info.dtype is DataType.DT_STRING:
        array = _bytes(alias, array)
    elif array.dtype != info.dtype.numpy:
        array = _converted(alias, info.dtype, array)
    if not _fits(array.shape, info.shape):
        raise Internal(
            f"predict returned {alias} of shape {_shape_text(array.shape)}, "
            f"and the signature says {_shape_text(info.shape or ())}"
        )
    return array


_FLOATS = (DataType.DT_DOUBLE, DataType.DT_FLOAT, DataType.DT_HALF, DataType.DT_BFLOAT16)


def _converted(alias: str, data_type: DataType, array: np.ndarray) -> np.ndarray:
    dtype = data_type.numpy
    assert dtype is not None, "a signature has types that arrays have"
    if not (np.can_cast(array.dtype, dtype) or (array.dtype.kind == "f" and data_type in _FLOATS)):
        raise Internal(f"predict returned {alias} as {array.dtype}, and the signature says {dtype}")
    return array.astype(dtype)


def _bytes(alias: str, array: np.ndarray) -> np.ndarray:
    strings = np.empty(array.shape, object)
    for position, item in np.ndenumerate(array):
        if not isinstance(item, str | bytes):
            raise Internal(f"predict returned {alias} with {item!r}, and the signature says string")
        strings[position] = item.encode() if isinstance(item, str) else bytes(item)
    return strings


def _fits(shape: Sequence[int], wanted: Sequence[int] | None) -> bool:
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(size in (-1, has) for has, size in zip(shape, wanted, strict=True))


def _shape_text(shape: Sequence[int]) -> str:
    return f"[{','.join('?' if size == -1 else str(size) for size in shape)}]"
