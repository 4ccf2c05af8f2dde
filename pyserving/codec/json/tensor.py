"""JSON values as arrays, element by element as TensorFlow Serving's json_tensor.cc goes through them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from pyserving.codec.json.base64_object import decoded, is_base64_object
from pyserving.codec.json.document import Object, Value
from pyserving.codec.json.dump import dump
from pyserving.errors import InvalidArgument, Unimplemented
from pyserving.signature import DataType

_INT32_RANGE = (-(1 << 31), (1 << 31) - 1)
INTEGER_RANGES: dict[DataType, tuple[int, int]] = {
    DataType.DT_INT32: _INT32_RANGE,
    DataType.DT_INT16: _INT32_RANGE,
    DataType.DT_INT8: _INT32_RANGE,
    DataType.DT_UINT8: _INT32_RANGE,
    DataType.DT_INT64: (-(1 << 63), (1 << 63) - 1),
    DataType.DT_UINT32: (0, (1 << 32) - 1),
    DataType.DT_UINT64: (0, (1 << 64) - 1),
}
"""What is taken; the narrow types then keep the low bits of it."""
REAL_TYPES = frozenset([DataType.DT_FLOAT, DataType.DT_DOUBLE])
_JSON_TYPES = frozenset([*REAL_TYPES, *INTEGER_RANGES, DataType.DT_BOOL, DataType.DT_STRING])


def shape_of(value: Value) -> tuple[int, ...]:
    """Read along the first element of each level."""
    shape = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    return tuple(shape)


def to_array(value: Value, dtype: DataType) -> np.ndarray:
    """A nested list, or a scalar, as an array.

    InvalidArgument for lists that are not equally long and for elements of another type; Unimplemented for a dtype that
    has no values in JSON; ValueError for more dimensions than NumPy has.
    """
    return filled(value, shape_of(value), dtype)


def filled(value: Value, shape: tuple[int, ...], dtype: DataType) -> np.ndarray:
    """As `to_array`, for a value that must have this shape."""
    leaves = _leaves(value, shape)
    elements = None if leaves is None else _elements(leaves, dtype)
    if elements is None:
        _refuse(value, shape, dtype)
    return elements.reshape(shape)


def first_misfit(values: list[Value], dtype: DataType) -> int:
    """The first of the values that has not the shape of the first, or not this type; how many there are if all have."""
    shape = shape_of(values[0])
    if _fit(values, shape, dtype):
        return len(values)
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        if _fit(values[low:middle], shape, dtype):
            low = middle
        else:
            high = middle
    return low


def _fit(values: list[Value], shape: tuple[int, ...], dtype: DataType) -> bool:
    leaves = _leaves(values, (len(values), *shape))
    try:
        return leaves is not None and _elements(leaves, dtype) is not None
    except InvalidArgument:  # no base64
        return False


def _leaves(value: Value, shape: tuple[int, ...]) -> list[Value] | None:
    """All elements in order; None where the value does not have the shape."""
    level: list[Value] = [value]
    for size in shape:
        lists = [item for item in level if isinstance(item, list) and len(item) == size]
        if len(lists) != len(level):
            return None
        level = list(chain.from_iterable(lists))
    return None if list in set(map(type, level)) else level


def _elements(leaves: list[Value], dtype: DataType) -> np.ndarray | None:
    """The elements as a flat array; None where one of them has another type."""
    types: set[type] = set(map(type, leaves))
    if dtype in REAL_TYPES:
        return real_numbers(leaves, dtype) if types <= {int, float} else None
    if dtype in INTEGER_RANGES:
        return _integers(leaves, dtype) if types <= {int} else None
    if dtype is DataType.DT_BOOL:
        return np.fromiter(leaves, np.bool_, len(leaves)) if types <= {bool} else None
    if dtype is DataType.DT_STRING:
        return _strings(leaves)
    return np.empty(0, dtype.numpy) if not leaves and dtype.numpy is not None else None


def real_numbers(numbers: list[Value] | np.ndarray, dtype: DataType) -> np.ndarray:
    """Numbers as doubles, rounded to the dtype; what is beyond its range becomes infinite."""
    doubles = np.fromiter(numbers, np.float64, len(numbers)) if isinstance(numbers, list) else numbers
    with np.errstate(over="ignore"):
        return doubles.astype(dtype.numpy, copy=False)


def _integers(leaves: list[Any], dtype: DataType) -> np.ndarray | None:
    low, high = INTEGER_RANGES[dtype]
    if leaves and not low <= min(leaves) <= max(leaves) <= high:
        return None
    wide = np.fromiter(leaves, np.uint64 if dtype is DataType.DT_UINT64 else np.int64, len(leaves))
    return wide.astype(dtype.numpy, copy=False)


def _strings(leaves: list[Value]) -> np.ndarray | None:
    strings = np.empty(len(leaves), object)
    for index, leaf in enumerate(leaves):
        if is_base64_object(leaf):
            leaf = decoded(leaf)
        if type(leaf) is not bytes:
            return None
        strings[index] = leaf
    return strings


def _refuse(root: Value, shape: tuple[int, ...], dtype: DataType) -> NoReturn:
    """Raise for the first value, in document order, that does not fit."""
    levels: list[Iterator[Value]] = [iter([root])]
    while levels:
        for value in levels[-1]:
            if isinstance(value, list):
                _check_list(value, len(levels) - 1, shape)
                levels.append(iter(value))
                break
            _check_element(value, len(levels) - 1, shape, dtype)
        else:
            levels.pop()
    raise AssertionError("a value that fits was refused")


def _check_list(value: list[Value], level: int, shape: tuple[int, ...]) -> None:
    if level >= len(shape):
        raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )


def _check_element(value: Value, level: int, shape: tuple[int, ...], dtype: DataType) -> None:
    if level != len(shape):
        raise InvalidArgument(
            f"JSON Value: {dump(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {len(shape)}"
        )
    if dtype is DataType.DT_STRING and isinstance(value, Object):
        if not is_base64_object(value):
            raise InvalidArgument(f"JSON Value: {dump(value)} not formatted correctly for base64 data")
        decoded(value)
    elif dtype not in _JSON_TYPES and not isinstance(value, Object):
        raise Unimplemented(f"Conversion of JSON Value: {dump(value)} to type: {dtype.type_name}")
    elif _elements([value], dtype) is None:
        raise InvalidArgument(
            f"JSON Value: {dump(value)} Type: {kind_of(value)} is not of expected type: {dtype.type_name}"
        )


def kind_of(value: Value) -> str:
    """The name of a value's type in sentences."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, Object):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, bytes) else "Number"
