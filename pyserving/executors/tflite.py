"""A `model.tflite` and runs of it, as tflite_session.cc loads it in place of a SavedModel."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from pyserving.codec import signature_def
from pyserving.errors import Cancelled, Internal, InvalidArgument
from pyserving.executors import tflite_interpreter, tflite_signatures, version_folder
from pyserving.executors.executor import TFLITE_MODEL_FILE, Plan, Way
from pyserving.executors.tflite_interpreter import Tensor, TfliteInterpreter, TflitePool
from pyserving.executors.tflite_runtime import TfliteRuntime, tflite_runtime
from pyserving.machine import give_back_free_memory

_log = logging.getLogger(__name__)

_LARGEST_BATCH = 500
"""Rows that TensorFlow Serving divides among the interpreters of a pool."""


def open_tflite(path: str, *, num_pools: int = 1, num_interpreters_per_pool: int = 1) -> TfliteExecutor:
    """Load `model.tflite` of the version folder `path`. Raises a ServingError with TensorFlow Serving's sentence.

    The flags' names are TensorFlow Serving's: there are `num_pools` interpreters. More than one "per pool" has requests
    of many rows divided among them, for models of one input.
    """
    runtime = tflite_runtime()
    content = version_folder.read_file(path, TFLITE_MODEL_FILE)
    first = _new_interpreter(runtime, content)
    _log.info("Running %s by %s", os.path.join(path, TFLITE_MODEL_FILE), runtime.name)
    return TfliteExecutor(runtime, content, first, max(1, num_pools), num_interpreters_per_pool)


def _new_interpreter(runtime: TfliteRuntime, content: bytes) -> Any:
    # One thread each: the interpreters run side by side.
    try:
        return runtime.make_interpreter(model_content=content, num_threads=1)
    except (ValueError, RuntimeError) as error:
        if not content or "Flatbuffer" in str(error):
            raise InvalidArgument(f"Cannot build FlatBufferModel from buffer.\n\t{error}") from None
        raise Internal(f"Cannot build Interpreter from buffer.\n\t{error}") from None


class TfliteExecutor:
    """One loaded model. Runs wait for an interpreter while all are at work."""

    may_be_batched = False
    may_change = False

    def __init__(
        self, runtime: TfliteRuntime, content: bytes, interpreter: Any, num_pools: int, num_interpreters_per_pool: int
    ) -> None:
        """`interpreter` is one of the model `content`, to look at."""
        self._inputs = tflite_interpreter.inputs(interpreter)
        self._outputs = tflite_interpreter.outputs(interpreter)
        signatures = tflite_signatures.signature_def_map(runtime.read_model(content), self._inputs, self._outputs)
        self.signature_defs = {name: signature_def.decode(proto) for name, proto in signatures.signature_def.items()}
        self.signature_def_map: bytes = signatures.SerializeToString(deterministic=True)
        self._pool: TflitePool | None = TflitePool(
            lambda: TfliteInterpreter(_new_interpreter(runtime, content), checks_shapes=runtime.checks_shapes),
            num_pools,
        )
        self._rows_in_a_piece = self._piece(num_interpreters_per_pool)
        self._threads = ThreadPoolExecutor(num_pools, "tflite") if self._rows_in_a_piece else None

    def _piece(self, num_interpreters_per_pool: int) -> int:
        """Rows that one interpreter gets of a large request; 0 where requests are not divided."""
        if num_interpreters_per_pool <= 1 or len(self._inputs) != 1:
            return 0
        (only,) = self._inputs.values()
        own_rows = only.shape[0] if only.shape else 0
        return own_rows if own_rows > 1 else -(-_LARGEST_BATCH // num_interpreters_per_pool)

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        """Raises Internal for a tensor that is no input, or no output, of the model."""
        fed = tuple(self._input(name) for name in feeds)
        fetched = tuple(self._output(name) for name in fetches)
        run = partial(self._run_divided if self._threads else self._run, fed, fetched)
        return Plan(feeds, fetches, tuple(tensor.data_type for tensor in fed), (Way("caller", run),))

    def _input(self, name: str) -> Tensor:
        try:
            return self._inputs[tflite_signatures.known_name(name, self._inputs)]
        except Internal as error:
            raise Internal(f"{error}\n\tMissing input TFLite tensor: {name}") from None

    def _output(self, name: str) -> Tensor:
        try:
            return self._outputs[tflite_signatures.known_name(name, self._outputs)]
        except Internal as error:
            raise Internal(f"Missing output TFLite tensor: {name}: {error}") from None

    def _run(self, feeds: Sequence[Tensor], fetches: Sequence[Tensor], *arrays: np.ndarray) -> list[np.ndarray]:
        if self._pool is None:
            raise Cancelled("Session has been closed.")
        with self._pool.interpreter() as interpreter:
            return interpreter.run(feeds, arrays, fetches)

    def _run_divided(self, feeds: Sequence[Tensor], fetches: Sequence[Tensor], *arrays: np.ndarray) -> list[np.ndarray]:
        """The first piece in the calling thread, the others beside it."""
        rows = len(arrays[0]) if arrays and arrays[0].ndim else 0
        if rows <= self._rows_in_a_piece or self._threads is None:
            return self._run(feeds, fetches, *arrays)
        cuts = range(0, rows, self._rows_in_a_piece)
        pieces = [arrays[0][cut : cut + self._rows_in_a_piece] for cut in cuts]
        others = [self._threads.submit(self._run, feeds, fetches, piece) for piece in pieces[1:]]
        answers = [self._run(feeds, fetches, pieces[0]), *(other.result() for other in others)]
        return [_joined(list(parts), rows) for parts in zip(*answers, strict=True)]

    def close(self) -> None:
        """Plans that somebody still holds answer from now on as a closed session does, and keep no memory."""
        if self._threads is not None:
            self._threads.shutdown()  # pieces of a request that failed may be at work still
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        give_back_free_memory()


def _joined(parts: Sequence[np.ndarray], rows: int) -> np.ndarray:
    if any(part.ndim == 0 for part in parts) or sum(map(len, parts)) != rows:
        raise Internal("Tensor split operation failed: an output does not have a row for each row of the input")
    return np.concatenate(parts)
