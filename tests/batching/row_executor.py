"""An executor whose runs treat each row by itself, and refuse a batch for the sake of one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pyserving.errors import InvalidArgument, ServingError
from pyserving.executors.executor import CALLER, Plan, Way
from pyserving.signature import DataType, SignatureDef, TensorInfo

X = TensorInfo("x:0", DataType.DT_FLOAT, None)
W = TensorInfo("w:0", DataType.DT_FLOAT, None)
NAMES = ("same:0", "double:0", "mean:0", "rows:0", "words:0")

SIGNATURES = {
    "serving_default": SignatureDef({"x": X}, {"same": TensorInfo("same:0", DataType.DT_FLOAT, None)}),
    "both": SignatureDef(
        {"x": X},
        {
            "same": TensorInfo("same:0", DataType.DT_FLOAT, None),
            "double": TensorInfo("double:0", DataType.DT_FLOAT, None),
        },
    ),
}


class RowExecutor:
    """`same:0` is the first feed itself, `double:0` twice it, `mean:0` a scalar, `rows:0` the rows of the run.

    A negative number anywhere is an error of the whole run.
    """

    signature_defs: Mapping[str, SignatureDef] = SIGNATURES
    signature_def_map = b""
    may_be_batched = True
    may_change = False

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        """Of the first array of each run."""
        self.error: ServingError | None = None
        """Of every run of more than one row."""
        self.before_run: Callable[[], None] = lambda: None
        self.threads: list[threading.Thread] = []
        """Of each run."""
        self.is_short = False
        """Of plans from now on: runs may be made on the loop."""

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        def run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            self.before_run()
            self.threads.append(threading.current_thread())
            return self._outputs(arrays, fetches)

        dtypes = tuple(DataType.DT_STRING if feed.startswith("s") else DataType.DT_FLOAT for feed in feeds)
        return Plan(feeds, fetches, dtypes, (Way(CALLER, run),), is_bounded=self.is_short)

    def _outputs(self, arrays: Sequence[np.ndarray], fetches: tuple[str, ...]) -> list[np.ndarray]:
        first = arrays[0] if arrays else np.zeros((), np.float32)
        self.shapes.append(first.shape)
        if self.error is not None and first.ndim and len(first) > 1:
            raise self.error
        if first.dtype != object and (first < 0).any():
            raise InvalidArgument("a row is negative")
        values = {
            "same:0": lambda: first,
            "double:0": lambda: first * 2,
            "mean:0": lambda: np.asarray(first.mean()),
            "rows:0": lambda: np.full(7, len(first)),
        }
        return [values[name]() for name in fetches]

    def close(self) -> None:
        pass
