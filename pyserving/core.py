"""What front ends and inference are handed: the face of the server core, values in and values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyserving.messages import Buffer
from pyserving.protos import ModelServerConfig
from pyserving.signature import SignatureDef
from pyserving.types import ModelSpec, Prediction, PreparedPrediction, ServableId, ServableState


@dataclass(frozen=True, slots=True)
class SessionRun:
    """What one run by tensor names gave."""

    outputs: Mapping[str, np.ndarray]
    """By the fetched tensor's name."""
    runtime_micros: float


class InferenceCore(Protocol):
    """The part of a core that answers requests. Deadlines are in `loop.time()` seconds; None waits for ever."""

    async def predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
        *,
        deadline: float | None = None,
        take_in_worker: bool = False,
    ) -> Prediction:
        """Run a signature; `inputs` by alias are taken only once model, signature and names are found right.

        `take_in_worker`: taking them out is work that must not be done on the loop.
        """
        ...

    def signatures(self, spec: ModelSpec) -> tuple[ServableId, Mapping[str, SignatureDef]]:
        """All signatures of the version that `spec` resolves to now."""
        ...

    async def run(
        self,
        servable_id: ServableId,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        *,
        deadline: float | None = None,
    ) -> SessionRun:
        """Run by graph tensor names. Called in the same loop turn as `signatures`, it sees the same version."""
        ...


class Core(InferenceCore, Protocol):
    """ServerCore, or a fake of it."""

    @property
    def generation(self) -> int:
        """Another number whenever a spec may mean another version than it did."""
        ...

    def prepare(
        self, spec: ModelSpec, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str]
    ) -> PreparedPrediction | None:
        """What `predict` makes of all requests like this one, as long as `generation` does not change."""
        ...

    def metadata(self, spec: ModelSpec) -> tuple[ServableId, bytes]:
        """The serialized tensorflow.serving.SignatureDefMap, as the model has it."""
        ...

    def model_status(self, spec: ModelSpec) -> list[ServableState]:
        """States of one version, or of all ever seen, newest first."""
        ...

    async def reload_config(self, config: ModelServerConfig, *, deadline: float | None = None) -> None:
        """Make `config` the wish and wait until every model new by name is AVAILABLE or has failed."""
        ...


class RequestObserver(Protocol):
    """Hears of answered requests of some models: RequestLogs, or a fake of it."""

    def observes(self, model_name: str) -> bool:
        """Whether it wants to hear of this model, as long as no other config comes."""
        ...

    def picks(self, model_name: str) -> bool:
        """Whether it wants to hear of the request at hand: one for each request, since it may draw lots."""
        ...

    def answered(
        self, api: str, servable_id: ServableId, signature_name: str, request: Buffer, response: bytes
    ) -> None:
        """The bytes that PredictionService's method `api` took and gave, and the version that answered."""
        ...
