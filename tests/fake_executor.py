"""An executor whose runs are plain functions: `double:0` is twice what is fed, `sum:0` the sum of all feeds."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from pyserving.errors import InvalidArgument
from pyserving.executors.executor import Plan, Way
from pyserving.signature import DataType, SignatureDef, TensorInfo

X = TensorInfo("x:0", DataType.DT_FLOAT, (-1,))
Z = TensorInfo("z:0", DataType.DT_FLOAT, (-1,))
DOUBLE = TensorInfo("double:0", DataType.DT_FLOAT, (-1,))
SUM = TensorInfo("sum:0", DataType.DT_FLOAT, (-1,))

SIGNATURES = {
    "serving_default": SignatureDef({"x": X}, {"y": DOUBLE, "twin": DOUBLE, "s": SUM}),
    "two": SignatureDef({"x": X, "z": Z}, {"s": SUM}, defaults={"z": np.array([10.0], np.float32)}),
    "broken": SignatureDef({"x": X}, {"y": TensorInfo("nowhere:0", DataType.DT_FLOAT, None)}),
    "odd": SignatureDef({"x": X}, {"y": DOUBLE}, method_name="odd/method"),
}


class FakeExecutor:
    """Runs wait for `gate` where it is closed."""

    def __init__(self, signatures: Mapping[str, SignatureDef] = SIGNATURES) -> None:
        self.signature_defs = signatures
        self.signature_def_map = b"a map"
        self.gate = threading.Event()
        self.gate.set()
        self.is_bounded = False
        """Of plans made from now on: their runs are for the event loop, if they are short."""
        self.runs = 0
        self.is_closed = False

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        if "nowhere:0" in fetches:
            raise InvalidArgument("Tensor nowhere:0 is not in the graph")

        def run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            self.gate.wait()
            assert not self.is_closed, "run after close"
            self.runs += 1
            results = {"double:0": arrays[0] * 2, "sum:0": np.sum(np.broadcast_arrays(*arrays), axis=0)}
            return [results[name] for name in fetches]

        return Plan(feeds, fetches, (DataType.DT_FLOAT,) * len(feeds), (Way("caller", run),), self.is_bounded)

    def close(self) -> None:
        self.is_closed = True
