"""One TensorFlow Lite interpreter, which fits itself to the shapes that come, and a pool of them.

An interpreter serves one thread at a time. All of a pool share the bytes of the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import LifoQueue
from typing import Any

import numpy as np

from pyserving.errors import AlreadyExists, Internal
from pyserving.signature import DataType, data_type_of

_log = logging.getLogger(__name__)
_FAILURES = (RuntimeError, ValueError)
"""What interpreters raise for whatever their C++ reports."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model."""

    index: int
    name: str
    data_type: DataType
    shape: tuple[int, ...]
    """As it is before any request; 1 for a dimension that is open."""


def inputs(interpreter: Any) -> dict[str, Tensor]:
    """By name. Raises AlreadyExists and Internal for what tflite_session.cc refuses to load."""
    return _by_name("Input", interpreter.get_input_details())


def outputs(interpreter: Any) -> dict[str, Tensor]:
    """By name. Raises like `inputs`."""
    return _by_name("Output", interpreter.get_output_details())


def _by_name(kind: str, details: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for detail in details:
        tensor = Tensor(detail["index"], detail["name"], _data_type(detail["dtype"]), tuple(map(int, detail["shape"])))
        if not tensor.name:
            raise Internal(f"{kind} name missing for tensor index: {tensor.index}")
        if tensors.setdefault(tensor.name, tensor) is not tensor:
            raise AlreadyExists(f"{kind} tensor name: {tensor.name} has multiple indices")
    return tensors


def _data_type(numpy_type: type) -> DataType:
    if numpy_type is np.bytes_:
        return DataType.DT_STRING
    data_type = data_type_of(np.empty(0, numpy_type))
    if data_type is DataType.DT_INVALID:
        raise Internal(f"Unknown TfLite type: {numpy_type.__name__}")
    return data_type


class TfliteInterpreter:
    """Runs a model on inputs of any shape that its ops take; for one thread at a time."""

    def __init__(self, interpreter: Any) -> None:
        """Raises Internal when the model's tensors cannot be allocated."""
        self._interpreter = interpreter
        self._shapes: dict[int, tuple[int, ...]] = {}
        """What the inputs are allocated for, as far as it is known."""
        try:
            interpreter.allocate_tensors()
        except _FAILURES as error:
            raise Internal(f"Failed to allocate tensors\n\t{error}") from None

    def run(self, feeds: Sequence[Tensor], arrays: Sequence[np.ndarray], fetches: Sequence[Tensor]) -> list[np.ndarray]:
        """Copies in, copies out. Raises Internal with the sentences of tflite_session.cc; what is behind is logged."""
        self._fit(feeds, arrays)
        for tensor, array in zip(feeds, arrays, strict=True):
            self._interpreter.set_tensor(tensor.index, array)
        with _failing_as("Failed to invoke TfLite interpreter"):
            self._interpreter.invoke()
        return [self._interpreter.get_tensor(tensor.index) for tensor in fetches]

    def _fit(self, feeds: Sequence[Tensor], arrays: Sequence[np.ndarray]) -> None:
        """All inputs are resized before anything is allocated: what is half resized may not fit together."""
        wished = {tensor.index: array.shape for tensor, array in zip(feeds, arrays, strict=True)}
        if self._shapes.items() >= wished.items():
            return
        self._shapes = {}  # should something fail, nothing is known of them
        for tensor, array in zip(feeds, arrays, strict=True):
            with _failing_as(f"Failed to resize input tensor: {tensor.name} to {array.nbytes} bytes."):
                self._interpreter.resize_tensor_input(tensor.index, array.shape)
        with _failing_as("Failed to allocate tensors"):
            self._interpreter.allocate_tensors()
        self._shapes = wished


@contextmanager
def _failing_as(sentence: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        _log.warning("%s: %s", sentence, error)
        raise Internal(sentence) from None


class TflitePool:
    """A fixed number of interpreters. Who asks for one while all are taken waits."""

    def __init__(self, make_interpreter: Callable[[], TfliteInterpreter], size: int) -> None:
        # The one that ran last is the likeliest to have the right shapes.
        self._idle: LifoQueue[TfliteInterpreter] = LifoQueue()
        for _ in range(size):
            self._idle.put(make_interpreter())

    @contextmanager
    def interpreter(self) -> Iterator[TfliteInterpreter]:
        """One for the calling thread alone."""
        interpreter = self._idle.get()
        try:
            yield interpreter
        finally:
            self._idle.put(interpreter)

    def close(self) -> None:
        """Lets go of all; nobody has one any more."""
        while not self._idle.empty():
            self._idle.get_nowait()
