"""Bodies that differ from one that was read before in their numbers alone: from bytes to arrays, with little to check.

Such bodies have the same outline: all but digits, signs, points, exponents and white space. As to a body that is JSON
it leaves open whether a place between brackets and commas holds a number or nothing, which the count of numbers tells,
and which of those characters stand in strings, which are asked for by their names.
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import simdjson

from pyserving.codec.json.plain_numbers import PLAIN_KEYS, numbers_of
from pyserving.codec.json.tensor import INTEGER_RANGES, REAL_TYPES
from pyserving.signature import DataType, TensorInfo

MAX_BODY_BYTES = 8 << 10
"""Of bodies that have a layout."""
_LEFT_OUT = b"0123456789+-.eE \t\r\n"
_FLOAT64 = np.dtype(np.float64)
_NUMBERS = REAL_TYPES | INTEGER_RANGES.keys()


def outline(body: bytes) -> bytes:
    """Equal for bodies that differ in their numbers alone."""
    return body.translate(None, _LEFT_OUT)


class _Field(NamedTuple):
    """One input."""

    alias: str | None
    """None: the values are those of the only input."""
    data_type: DataType
    dtype: np.dtype
    shape: tuple[int, ...]
    num_double_bytes: int


class PlainLayout:
    """Where the numbers of bodies of one outline are, and the arrays that they become. For one thread."""

    __slots__ = ("_fields", "_parser", "_quietly", "_signature_name", "_values_key")

    def __init__(self, values_key: str, signature_name: str | None, fields: Sequence[_Field]) -> None:
        """`signature_name` is None where the bodies have none. Arrays come in the order of `fields`."""
        self._values_key = values_key
        self._signature_name = signature_name
        self._fields = fields
        self._parser = simdjson.Parser()
        self._quietly = contextvars.copy_context()  # where np.seterr holds, at a tenth of the cost of np.errstate
        self._quietly.run(np.seterr, over="ignore")

    def arrays(self, body: bytes) -> list[np.ndarray] | None:
        """Of a body of this outline. None when it is something else after all, be it right or wrong."""
        try:
            return list(self._arrays(body))
        except (KeyError, TypeError, ValueError, RuntimeError):  # all that simdjson raises
            return None

    def _arrays(self, body: bytes) -> Iterator[np.ndarray]:
        root: Any = self._parser.parse(body)
        if self._signature_name is not None and root["signature_name"] != self._signature_name:
            raise ValueError(self._signature_name)
        values = root[self._values_key]
        for field in self._fields:
            yield self._array(values if field.alias is None else values[field.alias], field)

    def _array(self, values: Any, field: _Field) -> np.ndarray:
        if field.data_type not in REAL_TYPES:
            return numbers_of(values, field.data_type).reshape(field.shape)
        numbers = values.as_buffer(of_type="d")
        if numbers.size != field.num_double_bytes:
            raise ValueError(numbers.size)
        doubles: np.ndarray = np.ndarray(field.shape, _FLOAT64, numbers)
        return doubles if field.dtype is _FLOAT64 else self._quietly.run(doubles.astype, field.dtype)


def plain_layout(
    body: bytes, infos: Mapping[str, TensorInfo], arrays: Mapping[str, np.ndarray], order: Sequence[str]
) -> PlainLayout | None:
    """The layout of bodies like this one, which was read as `arrays`; None for one that is not plain.

    `order` are the aliases in the order in which the arrays of such bodies are wanted.
    """
    if len(body) > MAX_BODY_BYTES or arrays.keys() != set(order):
        return None
    if not all(infos[alias].dtype in _NUMBERS and arrays[alias].ndim and arrays[alias].size for alias in order):
        return None
    try:
        root: Any = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        return None
    if not isinstance(root, simdjson.Object) or (keys := tuple(root)) not in PLAIN_KEYS:
        return None
    signature_name: Any = root["signature_name"] if "signature_name" in keys else None
    values_key = "inputs" if "inputs" in keys else "instances"
    values: Any = root[values_key]
    are_named = isinstance(values, simdjson.Object)
    if are_named and not (values_key == "inputs" and _are_told_apart(list(values))):
        return None
    fields = [_field(alias if are_named else None, infos[alias].dtype, arrays[alias]) for alias in order]
    layout = PlainLayout(values_key, signature_name, fields)
    del root, values  # whatever points into a parser
    read = layout.arrays(body)
    return layout if read is not None and all(map(np.array_equal, read, [arrays[alias] for alias in order])) else None


def _are_told_apart(names: Sequence[str]) -> bool:
    """By an outline too, so that two of one shape cannot take each other's place."""
    return len({outline(name.encode()) for name in names}) == len(names)


def _field(alias: str | None, data_type: DataType, array: np.ndarray) -> _Field:
    return _Field(alias, data_type, array.dtype, array.shape, array.size * _FLOAT64.itemsize)
