"""What callers have as the arrays that go over the wire."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyserving.errors import InvalidArgument
from pyserving.signature import DataType


def as_array(value: Any, data_type: DataType | None = None) -> np.ndarray:
    """An array as it is; any other value as one of `data_type`, or of the type that NumPy gives it.

    Texts become object arrays of bytes, in UTF-8. InvalidArgument for what does not fit.
    """
    if isinstance(value, np.ndarray):
        array = value
    elif data_type is DataType.DT_STRING:
        return _bytes_array(np.array(value, object))
    else:
        array = _from_values(value, data_type)
    if array.dtype.kind in "USO":
        return _bytes_array(array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _from_values(value: Any, data_type: DataType | None) -> np.ndarray:
    try:
        return np.asarray(value, data_type.numpy if data_type is not None else None)
    except (TypeError, ValueError, OverflowError) as error:
        wanted = f" of {data_type.type_name}" if data_type is not None else ""
        raise InvalidArgument(f"{_shown(value)} makes no array{wanted}: {error}") from None


def _bytes_array(array: np.ndarray) -> np.ndarray:
    return np.fromiter(map(_bytes, array.flat), object, array.size).reshape(array.shape)


def _bytes(element: object) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes):
        return element
    raise InvalidArgument(f"{_shown(element)} is neither a text nor bytes, and not all of the array are numbers")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
