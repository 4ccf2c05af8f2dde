"""Requests of nothing but equally long lists of numbers: bytes to arrays with no Python object for a number.

simdjson reads the numbers into one buffer without telling where a list ends. So the body's brackets and commas are
compared with those of a body of that shape. Whatever is not plain, the complete reader reads.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import simdjson

from pyserving.codec.json.tensor import INTEGER_RANGES, REAL_TYPES, real_numbers
from pyserving.signature import DataType, TensorInfo

Shape: TypeAlias = tuple[int, ...]

_OTHERS = bytes(set(range(256)) - set(b"[]{},"))
"""All but brackets and commas."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:/-]*")
"""A name with neither brackets nor commas."""
_MAX_KEPT_BODY_BYTES = 2048
_MAX_SPARE_BODY_BYTES = 1 << 23
_spare_parsers: deque[simdjson.Parser] = deque(maxlen=4)
"""A cache of memory alone: fresh memory for the parser of a large body costs as much as half of its parsing."""
_SIGNATURE_NAME, _INSTANCES, _INPUTS = "signature_name", "instances", "inputs"
PLAIN_KEYS = frozenset(
    keys
    for values in (_INSTANCES, _INPUTS)
    for keys in ((values,), (_SIGNATURE_NAME, values), (values, _SIGNATURE_NAME))
)


class PlainBody:
    """A request that may be plain: its keys are, of what its lists hold nothing is known yet."""

    def __init__(
        self, body: bytes, parser: simdjson.Parser, root: simdjson.Object, keys: tuple[str, ...], signature_name: str
    ) -> None:
        self._body = body
        self._parser = parser
        self._root: simdjson.Object | None = root
        self._keys = keys
        self.signature_name = signature_name
        self.is_rows = _INSTANCES in keys

    def inputs(self, infos: Mapping[str, TensorInfo]) -> dict[str, np.ndarray] | None:
        """An array for each input; None for what is not plain after all, be it right or wrong. To be asked for once."""
        assert self._root is not None
        arrays = self._read(self._root[_INSTANCES if self.is_rows else _INPUTS], infos)
        self._root = None  # whatever points into a parser must be gone before it parses again
        if len(self._body) <= _MAX_SPARE_BODY_BYTES:
            _spare_parsers.append(self._parser)
        return arrays

    def _read(self, values: object, infos: Mapping[str, TensorInfo]) -> dict[str, np.ndarray] | None:
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
        return {alias: array} if array is not None and self._has_lists((array.shape,), are_named=False) else None

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
        return arrays if self._has_lists(tuple(array.shape for array in arrays.values()), are_named=True) else None

    def _has_lists(self, shapes: tuple[Shape, ...], *, are_named: bool) -> bool:
        """The lists of the body's values are those of arrays of these shapes."""
        frame = _kept_frame if len(self._body) <= _MAX_KEPT_BODY_BYTES else _frame
        # Measured: NumPy's masks are no faster once their memory counts.
        return self._body.translate(None, _OTHERS) == frame(self._keys, shapes, are_named)


def read(body: bytes) -> PlainBody | None:
    """None for a body that has other keys, or is not strictly JSON."""
    parser = _spare_parser()
    try:
        root = parser.parse(body)
    except (ValueError, RuntimeError):
        return None
    if not isinstance(root, simdjson.Object):
        return None
    keys = tuple(root)
    if keys not in PLAIN_KEYS:
        return None
    signature_name = root[_SIGNATURE_NAME] if _SIGNATURE_NAME in keys else ""
    if not isinstance(signature_name, str) or not _PLAIN_NAME.fullmatch(signature_name):
        return None
    return PlainBody(body, parser, root, keys, signature_name)


def _spare_parser() -> simdjson.Parser:
    try:
        return _spare_parsers.pop()
    except IndexError:
        return simdjson.Parser()


def _array(values: simdjson.Array, dtype: DataType) -> np.ndarray | None:
    """The numbers in the shape of the first lists; None where these hold not so many, or not the dtype's."""
    try:
        numbers = numbers_of(values, dtype)
        return numbers.reshape(_shape(values)) if len(numbers) else None
    except (TypeError, ValueError):
        return None


def numbers_of(values: simdjson.Array, dtype: DataType) -> np.ndarray:
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
    return wide.astype(dtype.numpy, copy=False)


def _shape(values: simdjson.Array) -> Shape:
    shape = [len(values)]
    first = values[0] if shape[0] else None
    while isinstance(first, simdjson.Array):
        shape.append(len(first))
        first = first[0] if shape[-1] else None
    return tuple(shape)


def _frame(keys: tuple[str, ...], shapes: tuple[Shape, ...], are_named: bool) -> bytes:
    """The brackets and commas of a request with these keys and values, by name or just one."""
    values = b",".join(map(_lists, shapes))
    if are_named:
        values = b"{" + values + b"}"
    return b"{" + b",".join(b"" if key == _SIGNATURE_NAME else values for key in keys) + b"}"


_kept_frame = lru_cache(maxsize=256)(_frame)


def _lists(shape: Shape) -> bytes:
    text = b""
    for size in reversed(shape):
        text = b"[" + (text + b",") * (size - 1) + text + b"]"
    return text
