"""JSON predict requests like those that came before: answered within one turn of the loop.

Whatever is out of the ordinary (a first request, an error in the body, a run that would wait) goes the long way, which
says what there is to be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from pyserving.codec.json.predict import NonFinite, PredictBody, decode_predict, encode_predict
from pyserving.core import Core
from pyserving.errors import ServingError
from pyserving.frontends.rest.answer import LARGE_BODY_BYTES, LARGE_OUTPUT_BYTES, Answer, written_bytes
from pyserving.frontends.rest.routes import Route
from pyserving.messages import HttpRequest
from pyserving.metrics import Metrics, RequestCells
from pyserving.signature import SignatureDef
from pyserving.types import ModelSpec, Prediction, PreparedPrediction

_Shapes: TypeAlias = tuple[tuple[int, ...], ...]


class QuickPredict:
    """Knows how to run some kinds of requests, until models change."""

    MAX_KNOWN = 1024

    def __init__(self, core: Core, metrics: Metrics, runtime: str, nonfinite: NonFinite, max_bytes: int) -> None:
        """`runtime` is a label of the metrics; `max_bytes` bounds the arrays of a request."""
        self._core = core
        self._metrics = metrics
        self._runtime = runtime
        self._nonfinite = nonfinite
        self._max_bytes = max_bytes
        self._generation = core.generation
        self._signatures: dict[ModelSpec, Mapping[str, SignatureDef]] = {}
        self._known: dict[tuple[ModelSpec, str, _Shapes], _Known | None] = {}

    def __call__(self, found: Route, request: HttpRequest) -> Answer | None:
        """The answer, if it can be had without waiting. ServingError of the run."""
        signatures = self._signatures.get(found.spec)
        if signatures is None or self._generation != self._core.generation or not _is_ordinary(request):
            return None
        began = self._metrics.clock()
        try:
            asked = decode_predict(request.body, lambda name: signatures, max_bytes=self._max_bytes)
        except ServingError:
            return None
        known = self._known.get((found.spec, asked.signature_name, _shapes(asked.inputs)))
        if known is None:
            return None
        return self._run(known, asked, began)

    def learn(self, spec: ModelSpec, asked: PredictBody, prediction: Prediction) -> None:
        """A request that has been answered. `spec` is the URL's."""
        if self._generation != self._core.generation:
            self._generation = self._core.generation
            self._known.clear()
            self._signatures.clear()
        key = spec, asked.signature_name, _shapes(asked.inputs)
        if key in self._known or written_bytes(prediction.outputs) >= LARGE_OUTPUT_BYTES:
            return
        if len(self._known) >= self.MAX_KNOWN:
            self._known.clear()
            self._signatures.clear()
        self._known[key] = self._prepared(spec, asked)

    def _prepared(self, spec: ModelSpec, asked: PredictBody) -> _Known | None:
        """None for what has to go the long way."""
        whole = ModelSpec(spec.name, spec.version, spec.version_label, asked.signature_name)
        try:
            prepared = self._core.prepare(whole, asked.inputs, ())
            self._signatures[spec] = self._core.signatures(spec)[1]
        except ServingError:
            return None
        if prepared is None:
            return None
        labels = prepared.servable_id.name, str(prepared.servable_id.version), prepared.signature_name
        cells = RequestCells(self._metrics, "predict", "REST", self._runtime, labels, runtime_api="Predict")
        return _Known(prepared, cells)

    def _run(self, known: _Known, asked: PredictBody, began: int) -> Answer | None:
        prepared, clock = known.prepared, self._metrics.clock
        try:
            run = prepared.run_at_once([asked.inputs[alias] for alias in prepared.input_aliases])
            if run is None:
                return None
            outputs, runtime_micros = run
            named = dict(zip(prepared.output_aliases, outputs, strict=True))
            body = encode_predict(named, asked.format, nonfinite=self._nonfinite)
        except Exception as error:
            known.cells.failed((clock() - began) // 1000, error)
            raise
        known.cells.answered((clock() - began) // 1000, runtime_micros)
        return Answer(body, prepared.servable_id.version)


class _Known:
    __slots__ = ("cells", "prepared")

    def __init__(self, prepared: PreparedPrediction, cells: RequestCells) -> None:
        self.prepared = prepared
        self.cells = cells


def _is_ordinary(request: HttpRequest) -> bool:
    headers = request.headers
    return (
        len(request.body) < LARGE_BODY_BYTES
        and "content-encoding" not in headers
        and "protobuf" not in headers.get("content-type", "")
    )


def _shapes(inputs: Mapping[str, np.ndarray]) -> _Shapes:
    """In the order of the request's members; another order is another kind of request."""
    return tuple(array.shape for array in inputs.values())
