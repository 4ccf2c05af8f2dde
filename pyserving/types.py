"""The nouns of serving: which servable, which version, in which state. Values only; names are TensorFlow Serving's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pyserving.errors import ServingError
from pyserving.messages import Later


@dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """One version of one model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


@dataclass(frozen=True, slots=True)
class ServableRequest:
    """What to look up in the serving map."""

    name: str
    version: int | None = None
    """None asks for the AVAILABLE version with the largest number."""

    def __str__(self) -> str:
        if self.version is None:
            return f"Latest({self.name})"
        return f"Specific({self.name}, {self.version})"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a caller wrote; labels are resolved by ServerCore alone."""

    name: str
    version: int | None = None
    version_label: str | None = None
    """None: no label chosen. An empty string is a label."""
    signature_name: str = ""
    """Empty asks for `serving_default`."""


@dataclass(frozen=True, slots=True)
class AspiredVersion:
    """A version that a source wants served, and the folder it lies in."""

    id: ServableId
    path: str


class ManagerState(IntEnum):
    """States of a version as GetModelStatus shows them; the integers are the proto's."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class ServableState:
    """The latest that is known of one version."""

    id: ServableId
    manager_state: ManagerState
    health: ServingError | None = None
    """The error of the last load attempt; None when all is well."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one run."""

    servable_id: ServableId
    signature_name: str
    outputs: Mapping[str, np.ndarray]
    runtime_micros: float
    """Time of the model's run alone, queueing in it included."""


@dataclass(frozen=True, slots=True)
class PreparedPrediction:
    """A request of which all but the elements of its inputs is known, and found right."""

    servable_id: ServableId
    signature_name: str
    input_aliases: tuple[str, ...]
    output_aliases: tuple[str, ...]
    run: Callable[[Sequence[np.ndarray]], tuple[Sequence[np.ndarray], float] | Later | None]
    """Inputs in the order of their aliases to outputs in the order of theirs, and the microseconds that it took; or to
    what will be there before this turn of the loop is over. None when it cannot be done without waiting; nothing has
    been done then. Raises the ServingError of the run.
    """
    run_at_once: Callable[[Sequence[np.ndarray]], tuple[Sequence[np.ndarray], float] | None]
    """The same, for whoever cannot wait for the end of the turn."""
