"""What callers have as the arrays that go over the wire."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyserving.errors import InvalidArgument
from pyserving.signature import DataType, data_type_of


def as_array(value: Any, data_type: DataType | None = None) -> np.ndarray:
    """An array as it is; any other value as one of `data_type`, or of the type that NumPy gives it.

    Texts become object arrays of bytes, in UTF-8. InvalidArgument for what does not fit: numbers are not rounded, and
    texts are not read as numbers.
    """
    if isinstance(value, np.ndarray):
        array = value
    elif data_type is DataType.DT_STRING:
        return _bytes_array(np.array(value, object))
    else:
        array = _from_values(value, data_type)
    if array.dtype.kind in "USO":
        return _bytes_array(array)
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if data_type_of(native) is DataType.DT_INVALID:
        raise InvalidArgument(f"No tensor holds {array.dtype}")
    return native


_KINDS = {
    "b": "booleans",
    "i": "integers",
    "u": "integers",
    "f": "floats",
    "c": "complex numbers",
    "U": "texts",
    "S": "bytes",
}
"""What NumPy tells elements by."""


def _from_values(value: Any, data_type: DataType | None) -> np.ndarray:
    wanted = f" of {data_type.type_name}" if data_type is not None else ""
    try:
        natural = np.asarray(value)
        if data_type is None:
            return natural
        if natural.size and natural.dtype.kind not in _kinds(data_type):
            held = _KINDS.get(natural.dtype.kind, "what is no number")
            raise InvalidArgument(f"{_shown(value)} makes no array{wanted}: it holds {held}")
        return np.asarray(value, data_type.numpy)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"{_shown(value)} makes no array{wanted}: {error}") from None


def _kinds(data_type: DataType) -> str:
    """Of elements that become this type without loss; V are those of ml_dtypes."""
    name = data_type.type_name
    if name == "bool":
        return "b"
    if name.lstrip("qu").startswith("int"):
        return "iuV"
    return "iufcV" if name.startswith("complex") else "iufV"


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
