"""Whether two answers to a request say the same, numbers within a tolerance, and where they do not."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import Message

from pyserving.codec import tensor_proto


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers are the same when they differ by no more than `absolute + relative * |wanted|`; NaN equals NaN."""

    relative: float = 1e-4
    absolute: float = 1e-5

    def accepts(self, wanted: np.ndarray, got: np.ndarray) -> np.ndarray:
        """Element by element; complex or real floating-point numbers of the same shape."""
        accepted: np.ndarray = np.isclose(got, wanted, self.relative, self.absolute, equal_nan=True)
        return accepted


def differences(wanted: Message, got: Message, tolerance: Tolerance) -> list[str]:
    """One line for each output, label or score that is another; which version answered does not count."""
    if wanted.DESCRIPTOR.name == "PredictResponse":
        return list(_of_outputs(wanted, got, tolerance))
    return list(_of_values(dict(_values(wanted, "")), dict(_values(got, "")), tolerance))


def _of_outputs(wanted: Any, got: Any, tolerance: Tolerance) -> Iterator[str]:
    yield from (f"{alias} is missing" for alias in sorted(wanted.outputs.keys() - got.outputs.keys()))
    yield from (f"{alias} is new" for alias in sorted(got.outputs.keys() - wanted.outputs.keys()))
    for alias in sorted(wanted.outputs.keys() & got.outputs.keys()):
        try:
            a, b = (tensor_proto.decode(response.outputs[alias]) for response in (wanted, got))
        except ValueError as error:
            yield f"{alias} is no array: {error}"
        else:
            yield from (f"{alias}{rest}" for rest in _of_arrays(a, b, tolerance))


def _of_arrays(wanted: np.ndarray, got: np.ndarray, tolerance: Tolerance) -> Iterator[str]:
    if wanted.dtype != got.dtype:
        yield f" has type {got.dtype}, was {wanted.dtype}"
    elif wanted.shape != got.shape:
        yield f" has shape {list(got.shape)}, was {list(wanted.shape)}"
    elif _is_fractional(wanted.dtype):
        wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
        a, b = wanted.astype(wide), got.astype(wide)
        is_other = ~tolerance.accepts(a, b)
        if is_other.any():
            largest = np.abs(b[is_other] - a[is_other]).max()  # where infinities that are the same are not subtracted
            yield f": {is_other.sum()} of {wanted.size} elements differ, by {largest:.3g} at most"
    elif (num_others := int(np.count_nonzero(wanted != got))) > 0:
        yield f": {num_others} of {wanted.size} elements differ"


def _is_fractional(dtype: np.dtype) -> bool:
    """Further floating-point types are of kind V, as quantized ones are, which have a field's name."""
    return dtype.kind in "fc" or (dtype.kind == "V" and not dtype.names and "float" in dtype.name)


def _values(message: Message, path: str) -> Iterator[tuple[str, Any]]:
    """The values that are set, floating-point ones as floats, by where they stand."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        entries = enumerate(value) if isinstance(value, MutableSequence) else [(None, value)]
        for index, entry in entries:
            place = here if index is None else f"{here}[{index}]"
            if field.name == "model_spec":
                continue
            if field.message_type is not None:
                yield from _values(entry, place)
            else:
                yield place, entry


def _of_values(wanted: dict[str, Any], got: dict[str, Any], tolerance: Tolerance) -> Iterator[str]:
    for place in sorted(wanted.keys() | got.keys()):
        # A number that is not set is a zero, which protobuf does not send.
        a, b = wanted.get(place), got.get(place)
        if isinstance(a, float) or isinstance(b, float):
            if not tolerance.accepts(np.float64(a or 0.0), np.float64(b or 0.0)):
                yield f"{place} is {b or 0.0:.6g}, was {a or 0.0:.6g}"
        elif a != b:
            yield f"{place} is {b!r}, was {a!r}"
