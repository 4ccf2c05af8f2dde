"""One TensorFlow Lite interpreter, which fits itself to the shapes that come, and a pool of them.

An interpreter serves one thread at a time. All of a pool share the bytes of the model.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import LifoQueue
from typing import Any

import numpy as np

from pyserving.errors import AlreadyExists, Internal, InvalidArgument, ServingError
from pyserving.signature import DataType, data_type_of

_log = logging.getLogger(__name__)
_FAILURES = (RuntimeError, ValueError)
"""What interpreters raise for whatever their C++ reports."""
_MOST_DIMENSIONS = 4
"""Of an input that has fewer itself. Interpreters write beyond their arrays from seven or twelve on, depending on their
version, also where it is the graph that adds some."""
_MOST_ELEMENTS_OF_NONE = 1 << 24
"""That an array without elements would have, were its empty dimensions 1. Interpreters multiply sizes in 32 bits."""
_MOST_TOLD = 64 << 10
"""Characters of what an interpreter reports. It repeats with each failure whatever it has reported before."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model."""

    index: int
    name: str
    data_type: DataType
    shape: tuple[int, ...]
    """As it is before any request; 1 for a dimension that is open."""
    declared_shape: tuple[int, ...] = ()
    """The same, but for -1 where a dimension is open."""


def inputs(interpreter: Any) -> dict[str, Tensor]:
    """By name. Raises AlreadyExists and Internal for what tflite_session.cc refuses to load."""
    return _by_name("Input", interpreter.get_input_details())


def outputs(interpreter: Any) -> dict[str, Tensor]:
    """By name. Raises like `inputs`."""
    return _by_name("Output", interpreter.get_output_details())


def _by_name(kind: str, details: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for detail in details:
        shape, declared_shape = (tuple(map(int, detail[name])) for name in ("shape", "shape_signature"))
        tensor = Tensor(detail["index"], detail["name"], _data_type(detail["dtype"]), shape, declared_shape)
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

    def __init__(self, interpreter: Any, *, checks_shapes: bool = True) -> None:
        """Raises Internal when the model's tensors cannot be allocated. `checks_shapes` as TfliteRuntime has it."""
        self._interpreter = interpreter
        self._checks_shapes = checks_shapes
        self._shapes: dict[int, tuple[int, ...]] = {}
        """What the inputs are allocated for, as far as it is known."""
        self._told = ""
        try:
            interpreter.allocate_tensors()
        except _FAILURES as error:
            raise Internal(f"Failed to allocate tensors\n\t{error}") from None

    @property
    def is_worn(self) -> bool:
        """It has failed so often that another should take its place."""
        return len(self._told) > _MOST_TOLD

    def run(self, feeds: Sequence[Tensor], arrays: Sequence[np.ndarray], fetches: Sequence[Tensor]) -> list[np.ndarray]:
        """Copies in, copies out. Raises Internal with the sentences of tflite_session.cc; what is behind is logged.

        InvalidArgument for shapes that no process with an interpreter survives.
        """
        self._fit(feeds, arrays)
        for tensor, array in zip(feeds, arrays, strict=True):
            self._interpreter.set_tensor(tensor.index, array)
        with self._failing_as("Failed to invoke TfLite interpreter"):
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(tensor.index) for tensor in fetches]

    def _fit(self, feeds: Sequence[Tensor], arrays: Sequence[np.ndarray]) -> None:
        """All inputs are resized before anything is allocated: what is half resized may not fit together."""
        wished = {tensor.index: array.shape for tensor, array in zip(feeds, arrays, strict=True)}
        if self._shapes.items() >= wished.items():
            return
        for tensor, array in zip(feeds, arrays, strict=True):
            _check_size(tensor, array.shape)
            if not self._checks_shapes:
                _check_shape(tensor, array.shape)
        self._shapes = {}  # should something fail, nothing is known of them
        for tensor, array in zip(feeds, arrays, strict=True):
            with self._failing_as(f"Failed to resize input tensor: {tensor.name} to {array.nbytes} bytes."):
                self._interpreter.resize_tensor_input(tensor.index, array.shape)
        with self._failing_as("Failed to allocate tensors"):
            self._interpreter.allocate_tensors()
        self._shapes = wished

    @contextmanager
    def _failing_as(self, sentence: str) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            _log.warning("%s: %s", sentence, self._news(str(error)))
            raise Internal(sentence) from None

    def _news(self, told: str) -> str:
        """What an interpreter's report says that the ones before did not."""
        news = told.removeprefix(self._told)
        if len(told) > len(self._told):
            self._told = told
        return news


def _check_size(tensor: Tensor, shape: tuple[int, ...]) -> None:
    most = max(_MOST_DIMENSIONS, len(tensor.shape))
    if len(shape) > most:
        raise InvalidArgument(f"Input tensor {tensor.name} has {len(shape)} dimensions; the most is {most}")
    if 0 in shape and math.prod(filter(None, shape)) > _MOST_ELEMENTS_OF_NONE:
        raise InvalidArgument(f"Input tensor {tensor.name} has no elements, in a shape too large: {list(shape)}")


def _check_shape(tensor: Tensor, shape: tuple[int, ...]) -> None:
    """It must be the model's own, but for the number of rows, of which there must be some."""
    declared = tensor.declared_shape
    # Where none is declared, any will do: or it is a scalar.
    is_alike = not declared or (len(shape) == len(declared) and all(map(_fits, shape[1:], declared[1:])))
    if 0 in shape or not is_alike:
        open_shape = ", ".join("?" if size < 0 else str(size) for size in (-1, *declared[1:]))
        raise InvalidArgument(
            f"Input tensor {tensor.name} has shape {list(shape)}; the model's is [{open_shape}], and only LiteRT can "
            "run it on others"
        )


def _fits(size: int, declared: int) -> bool:
    return declared in (-1, size)


class TflitePool:
    """A fixed number of interpreters. Who asks for one while all are taken waits."""

    def __init__(self, make_interpreter: Callable[[], TfliteInterpreter], size: int) -> None:
        self._make_interpreter = make_interpreter
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
            self._idle.put(self._another() or interpreter if interpreter.is_worn else interpreter)

    def _another(self) -> TfliteInterpreter | None:
        """None where there is no memory for it now."""
        try:
            return self._make_interpreter()
        except ServingError as error:
            _log.warning("A TensorFlow Lite interpreter that has failed often cannot be replaced: %s", error.message)
            return None

    def close(self) -> None:
        """Lets go of all; nobody has one any more."""
        while not self._idle.empty():
            self._idle.get_nowait()
