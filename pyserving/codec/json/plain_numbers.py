"""Requests of nothing but equally long lists of numbers: bytes to arrays with no Python object for a number.

simdjson reads the numbers into one buffer without telling where a list ends. So what is left of the body without its
digits and white space is compared with what a body of that shape leaves. Whatever is not plain to the last byte, the
complete reader reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import simdjson

from pyserving.codec.json.tensor import INTEGER_RANGES, REAL_TYPES, real_numbers
from pyserving.signature import DataType, TensorInfo

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Shape | tuple[tuple[str, Shape], ...]
"""Of the only input's value, or of values by name."""

_DIGITS_AND_SPACE = b"0123456789+-.eE \t\r\n"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:/-]*")
"""A name that stands in the body as it is, without quotes or brackets within."""
_MAX_KEPT_BODY_BYTES = 2048
_SIGNATURE_NAME, _INSTANCES, _INPUTS = "signature_name", "instances", "inputs"
_PLAIN_KEYS = frozenset(
    keys
    for values in (_INSTANCES, _INPUTS)
    for keys in ((values,), (_SIGNATURE_NAME, values), (values, _SIGNATURE_NAME))
)


class PlainBody:
    """A request that may be plain: its keys are, of what its lists hold nothing is known yet."""

    def __init__(self, body: bytes, root: simdjson.Object, keys: tuple[str, ...], signature_name: str) -> None:
        self._body = body
        self._root = root
        self._keys = keys
        self.signature_name = signature_name
        self.is_rows = _INSTANCES in keys

    def inputs(self, infos: Mapping[str, TensorInfo]) -> dict[str, np.ndarray] | None:
        """An array for each input; None for what is not plain after all, be it right or wrong."""
        values = self._root[_INSTANCES if self.is_rows else _INPUTS]
        if isinstance(values, simdjson.Array):
            return self._only_input(values, infos)
        if isinstance(values, simdjson.Object) and not self.is_rows:
            return self._named_inputs(values, infos)
        return None

    def _only_input(self, values: simdjson.Array, infos: Mapping[str, TensorInfo]) -> dict[str, np.ndarray] | None:
        if len(infos) != 1:
            return None
        ((alias, info),) = infos.items()
        array = _array(values, info.dtype)
        return {alias: array} if array is not None and self._leaves(array.shape) else None

    def _named_inputs(self, values: simdjson.Object, infos: Mapping[str, TensorInfo]) -> dict[str, np.ndarray] | None:
        aliases = list(values)
        if len(aliases) != len(infos) or infos.keys() != set(aliases):
            return None
        arrays = {}
        for alias in aliases:
            value = values[alias]
            array = _array(value, infos[alias].dtype) if isinstance(value, simdjson.Array) else None
            if array is None or not _PLAIN_NAME.fullmatch(alias):
                return None
            arrays[alias] = array
        shapes = tuple((alias, array.shape) for alias, array in arrays.items())
        return arrays if self._leaves(shapes) else None

    def _leaves(self, shapes: Shapes) -> bool:
        """The body without its digits and white space is that of a request of these shapes."""
        frame = _kept_frame if len(self._body) <= _MAX_KEPT_BODY_BYTES else _frame
        return self._body.translate(None, _DIGITS_AND_SPACE) == frame(self._keys, self.signature_name, shapes)


def read(body: bytes) -> PlainBody | None:
    """None for a body that has other keys, or is not strictly JSON."""
    try:
        root = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        return None
    if not isinstance(root, simdjson.Object):
        return None
    keys = tuple(root)
    if keys not in _PLAIN_KEYS:
        return None
    signature_name = root[_SIGNATURE_NAME] if _SIGNATURE_NAME in keys else ""
    if not isinstance(signature_name, str) or not _PLAIN_NAME.fullmatch(signature_name):
        return None
    return PlainBody(body, root, keys, signature_name)


def _array(values: simdjson.Array, dtype: DataType) -> np.ndarray | None:
    """The numbers in the shape of the first lists; None where these hold not so many, or not the dtype's."""
    try:
        numbers = _numbers(values, dtype)
        return numbers.reshape(_shape(values)) if len(numbers) else None
    except (TypeError, ValueError):
        return None


def _numbers(values: simdjson.Array, dtype: DataType) -> np.ndarray:
    """Flat. TypeError or ValueError for what are no such numbers."""
    if dtype in REAL_TYPES:
        return real_numbers(np.frombuffer(values.as_buffer(of_type="d"), np.float64), dtype)
    if dtype not in INTEGER_RANGES:
        raise TypeError(dtype)
    if dtype is DataType.DT_UINT64:
        return np.frombuffer(values.as_buffer(of_type="u"), np.uint64)
    wide = np.frombuffer(values.as_buffer(of_type="i"), np.int64)
    low, high = INTEGER_RANGES[dtype]
    if len(wide) and (wide.min() < low or wide.max() > high):
        raise ValueError(dtype)
    return wide.astype(dtype.numpy)


def _shape(values: simdjson.Array) -> Shape:
    shape = [len(values)]
    first = values[0] if shape[0] else None
    while isinstance(first, simdjson.Array):
        shape.append(len(first))
        first = first[0] if shape[-1] else None
    return tuple(shape)


def _frame(keys: tuple[str, ...], signature_name: str, shapes: Shapes) -> bytes:
    """What a request of these shapes leaves without digits and white space."""
    members = [
        f'"{key}":"{signature_name}"'.encode() if key == _SIGNATURE_NAME else f'"{key}":'.encode() + _values(shapes)
        for key in keys
    ]
    return (b"{" + b",".join(members) + b"}").translate(None, _DIGITS_AND_SPACE)


_kept_frame = lru_cache(maxsize=256)(_frame)


def _values(shapes: Shapes) -> bytes:
    members = [f'"{item[0]}":'.encode() + _lists(item[1]) for item in shapes if isinstance(item, tuple)]
    return b"{" + b",".join(members) + b"}" if members else _lists(shapes)


def _lists(shape: Shapes) -> bytes:
    """The brackets and commas of an array."""
    text = b""
    for size in reversed(shape):
        assert isinstance(size, int)
        text = b"[" + (text + b",") * (size - 1) + text + b"]"
    return text
