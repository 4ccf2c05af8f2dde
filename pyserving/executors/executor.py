"""What a framework must offer for its models to be served, and the table of the platforms that do."""

from __future__ import annotations

import gc
import logging
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from pyserving.signature import DataType, SignatureDef

_log = logging.getLogger(__name__)
TFLITE_MODEL_FILE = "model.tflite"
_SLOW_IMPORT_SECONDS = 0.1
"""Less is an import that somebody else has made already."""

PLATFORMS = {
    "tensorflow": "pyserving.executors.tf_session:open_saved_model",
    "python": "pyserving.executors.python_model:open_python_model",
    "tflite": "pyserving.executors.tflite:open_tflite",
}
"""Import strings, so that a framework is imported by the first load and not before."""


CALLER, POOL = "caller", "pool"


@dataclass(frozen=True, slots=True)
class Way:
    """One way of running a plan. Every way of a plan gives the same answers."""

    name: str
    """CALLER: the whole run happens in the calling thread; POOL: the framework spreads it over its own threads."""
    run: Callable[..., Sequence[np.ndarray]]
    """Arrays in the order of the feeds in, arrays in the order of the fetches out. Any number of threads may be in it.

    Raises the ServingError of a failed run.
    """


@dataclass(frozen=True, slots=True)
class Plan:
    """A prepared run of one part of a model."""

    feeds: tuple[str, ...]
    """Names of the graph's tensors, `x:0`."""
    fetches: tuple[str, ...]
    feed_types: tuple[DataType, ...]
    """Types of the tensors themselves, whatever a signature says of them."""
    ways: tuple[Way, ...]
    """One at least; the first is the one to use when nothing is known of them."""
    is_bounded: bool = False
    """No run can wait for anything but the machine, nor go on for ever: what a request may ask of the event loop."""


class Executor(Protocol):
    """An opened model of some framework: synchronous, for any number of threads at once."""

    @property
    def signature_defs(self) -> Mapping[str, SignatureDef]: ...

    @property
    def signature_def_map(self) -> bytes:
        """A serialized tensorflow.serving.SignatureDefMap with every signature as the model has it."""

    @property
    def may_be_batched(self) -> bool:
        """Whether requests may be run together. An executor that divides them itself has nothing to gain by it."""

    @property
    def may_change(self) -> bool:
        """Whether runs may change the model, so that one which has failed must not be made again. True if unknown."""

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        """Prepare a run; takes milliseconds. Raises ServingError when these tensors cannot be run."""

    def close(self) -> None:
        """Give the model's memory back. Nothing runs any more when this is called, and nothing runs afterwards."""


def open_executor(platform: str, path: str, **options: Any) -> Executor:
    """Open the version folder `path`, importing the platform's framework if nobody has. Call in a loading thread.

    `options` are those of the function that PLATFORMS names. Raises the ServingError that says why it failed.
    """
    began = perf_counter()
    open_model = pkgutil.resolve_name(PLATFORMS[platform])
    if (seconds := perf_counter() - began) > _SLOW_IMPORT_SECONDS:
        _log.info("Imported %s's framework in %.1f s", platform, seconds)
        # It made some 300,000 objects that stay: a full collection would take 0.15 s to look at them, and again.
        gc.freeze()
    executor: Executor = open_model(path, **options)
    return executor
