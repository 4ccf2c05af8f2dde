"""A core that answers from plain functions, for front ends and inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pyserving.core import SessionRun
from pyserving.errors import InvalidArgument, NotFound, ServingError
from pyserving.protos import ModelServerConfig
from pyserving.signature import SignatureDef
from pyserving.types import ModelSpec, Prediction, PreparedPrediction, ServableId, ServableRequest, ServableState

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class FakeCore:
    """One model, `m`, version 7; `run` maps feeds by tensor name to outputs by tensor name."""

    def __init__(self, signatures: Mapping[str, SignatureDef], run: Run) -> None:
        self.signature_defs = signatures
        self._run = run
        self.generation = 0
        self.is_quick = False
        """Whether requests can be prepared, and answered at once."""
        self.states: list[ServableState] = []
        self.reloaded: list[ModelServerConfig] = []
        self.reload_error: ServingError | None = None
        self.while_reloading: Callable[[], None] = lambda: None
        self.deadlines: list[float | None] = []
        self.fetched: list[tuple[str, ...]] = []
        self.model_names = ["m"]
        self.labels: dict[str, int] = {}
        self.signature_def_map = b""
        self.places: dict[str, str] = {}

    def signatures(self, spec: ModelSpec) -> tuple[ServableId, Mapping[str, SignatureDef]]:
        if spec.version_label is not None and spec.version_label not in self.labels:
            raise InvalidArgument(f"Unrecognized servable version label: {spec.version_label}")
        if spec.name != "m" or spec.version not in (None, 7):
            raise NotFound(f"Servable not found for request: {ServableRequest(spec.name, spec.version)}")
        return ServableId("m", 7), self.signature_defs

    async def predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
        *,
        deadline: float | None = None,
        take_in_worker: bool = False,
    ) -> Prediction:
        servable_id, signatures = self.signatures(spec)
        self.deadlines.append(deadline)
        name = spec.signature_name or "serving_default"
        signature = signatures[name]
        fed = {signature.inputs[alias].name: array for alias, array in inputs.items()}
        outputs = self._run(fed)
        wanted = output_filter or list(signature.outputs)
        return Prediction(servable_id, name, {a: outputs[signature.outputs[a].name] for a in wanted}, 12.0)

    def prepare(
        self, spec: ModelSpec, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str]
    ) -> PreparedPrediction | None:
        servable_id, signatures = self.signatures(spec)
        name = spec.signature_name or "serving_default"
        signature = signatures[name]
        aliases = tuple(sorted(signature.outputs))

        def run(arrays: Sequence[np.ndarray]) -> tuple[Sequence[np.ndarray], float] | None:
            if not self.is_quick:
                return None
            outputs = self._run(
                {signature.inputs[alias].name: a for alias, a in zip(sorted(inputs), arrays, strict=True)}
            )
            return [outputs[signature.outputs[alias].name] for alias in aliases], 12.0

        fed = tuple(sorted(inputs))
        return None if output_filter else PreparedPrediction(servable_id, name, fed, aliases, run, run)

    async def run(
        self,
        servable_id: ServableId,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        *,
        deadline: float | None = None,
    ) -> SessionRun:
        self.deadlines.append(deadline)
        self.fetched.append(tuple(fetches))
        outputs = self._run(feeds)
        return SessionRun({name: outputs[name] for name in fetches}, 12.0)

    def metadata(self, spec: ModelSpec) -> tuple[ServableId, bytes]:
        servable_id, _ = self.signatures(spec)
        return servable_id, self.signature_def_map

    def execution(self, spec: ModelSpec) -> Mapping[str, str]:
        self.signatures(spec)
        return self.places

    def model_status(self, spec: ModelSpec) -> list[ServableState]:
        if not self.states:
            raise NotFound(f"Could not find any versions of model {spec.name}")
        return self.states

    def version_labels(self, name: str) -> Mapping[str, int]:
        return self.labels

    async def reload_config(self, config: ModelServerConfig, *, deadline: float | None = None) -> None:
        self.deadlines.append(deadline)
        if self.reload_error is not None:
            raise self.reload_error
        self.reloaded.append(config)
        self.while_reloading()
