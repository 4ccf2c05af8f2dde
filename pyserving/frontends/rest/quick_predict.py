"""JSON predict requests like those that came before: answered within one turn of the loop.

Whatever is out of the ordinary (a first request, an error in the body, a run that would wait) goes the long way, which
says what there is to be said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeAlias

import numpy as np

from pyserving.codec.json.answer_form import AnswerForm, answer_form
from pyserving.codec.json.plain_layout import MAX_BODY_BYTES, PlainLayout, outline, plain_layout
from pyserving.codec.json.predict import (
    Format,
    NonFinite,
    PredictBody,
    decode_plain,
    decode_predict,
    encode_predict,
)
from pyserving.core import Core
from pyserving.errors import ServingError
from pyserving.frontends.rest.answer import (
    LARGE_BODY_BYTES,
    LARGE_MIXED_BODY_BYTES,
    LARGE_OUTPUT_BYTES,
    Answer,
    written_bytes,
)
from pyserving.messages import Buffer
from pyserving.metrics import Metrics, RequestCells
from pyserving.signature import DEFAULT_SIGNATURE_NAME, SignatureDef
from pyserving.types import ModelSpec, Prediction, PreparedPrediction

_Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Asker: TypeAlias = "Callable[[Buffer], Answer | None]"
"""Given a request's body, gives its answer if it can be had without waiting. None: nothing has been done. Raises the
ServingError of the run."""


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
        self._laid_out: dict[bytes, _LaidOut | None] = {}
        """By what a spec is called here and the outline of a body; None where bodies of that outline have no layout."""

        self.asker = lru_cache(maxsize=self.MAX_KNOWN)(self._new_asker)
        """For JSON that is sent to the URL of a spec."""

    def _new_asker(self, spec: ModelSpec) -> Asker:
        return partial(self._ask, spec, repr(spec).encode("utf-8", "surrogateescape"))

    def _ask(self, spec: ModelSpec, name: bytes, body: Buffer) -> Answer | None:
        if self._generation != self._core.generation or len(body) >= LARGE_BODY_BYTES:
            return None
        began = self._metrics.clock()
        if len(body) > MAX_BODY_BYTES:
            return self._read(spec, b"", body, began)
        text = bytes(body)
        key = name + outline(text)
        laid_out = self._laid_out.get(key)
        arrays = None if laid_out is None else laid_out.layout.arrays(text)
        if laid_out is None or arrays is None:
            return self._read(spec, key, text, began)
        return laid_out.known.answer(arrays, laid_out.format, began)

    def _read(self, spec: ModelSpec, key: bytes, body: Buffer, began: int) -> Answer | None:
        """A body that is not like another one, for what is known of its kind."""
        signatures = self._signatures.get(spec)
        if signatures is None:
            return None
        try:
            asked = self._decoded(body, signatures)
        except ServingError:
            return None
        if asked is None:
            return None
        known = self._known.get((spec, asked.signature_name, _shapes(asked.inputs)))
        if known is None:
            return None
        if key and key not in self._laid_out:
            self._learn_layout(key, bytes(body), known, signatures, asked)
        return known.answer([asked.inputs[alias] for alias in known.input_aliases], asked.format, began)

    def _decoded(self, body: Buffer, signatures: Mapping[str, SignatureDef]) -> PredictBody | None:
        if len(body) >= LARGE_MIXED_BODY_BYTES:
            return decode_plain(body, lambda name: signatures)
        return decode_predict(body, lambda name: signatures, max_bytes=self._max_bytes)

    def learn(self, spec: ModelSpec, asked: PredictBody, prediction: Prediction) -> None:
        """A request that has been answered. `spec` is the URL's."""
        if self._generation != self._core.generation:
            self._generation = self._core.generation
            self._forget()
        key = spec, asked.signature_name, _shapes(asked.inputs)
        if key in self._known or written_bytes(prediction.outputs) >= LARGE_OUTPUT_BYTES:
            return
        if len(self._known) >= self.MAX_KNOWN:
            self._forget()
        self._known[key] = self._prepared(spec, asked)

    def _forget(self) -> None:
        self._known.clear()
        self._signatures.clear()
        self._laid_out.clear()

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
        return _Known(prepared, cells, self._metrics.clock, self._nonfinite)

    def _learn_layout(
        self, key: bytes, body: bytes, known: _Known, signatures: Mapping[str, SignatureDef], asked: PredictBody
    ) -> None:
        infos = signatures[asked.signature_name or DEFAULT_SIGNATURE_NAME].inputs
        layout = plain_layout(body, infos, asked.inputs, known.input_aliases)
        if len(self._laid_out) >= self.MAX_KNOWN:
            self._laid_out.clear()
        self._laid_out[key] = None if layout is None else _LaidOut(known, layout, asked.format)


class _Known:
    """Runs requests of one kind."""

    __slots__ = ("_cells", "_clock", "_forms", "_nonfinite", "_output_aliases", "_run", "_version", "input_aliases")

    def __init__(
        self, prepared: PreparedPrediction, cells: RequestCells, clock: Callable[[], int], nonfinite: NonFinite
    ) -> None:
        self.input_aliases = prepared.input_aliases
        self._run = prepared.run_at_once
        self._output_aliases = prepared.output_aliases
        self._version = prepared.servable_id.version
        self._cells = cells
        self._clock = clock
        self._nonfinite = nonfinite
        self._forms: dict[Format, AnswerForm | None] = {}

    def answer(self, arrays: Sequence[np.ndarray], format: Format, began: int) -> Answer | None:
        """`arrays` in the order of `input_aliases`; `began` by the clock."""
        try:
            run = self._run(arrays)
            if run is None:
                return None
            outputs, runtime_micros = run
            body = self._encoded(outputs, format)
        except Exception as error:
            self._cells.failed((self._clock() - began) // 1000, error)
            raise
        self._cells.answered((self._clock() - began) // 1000, runtime_micros)
        return Answer(body, self._version)

    def _encoded(self, outputs: Sequence[np.ndarray], format: Format) -> bytes:
        form = self._forms.get(format)
        if form is not None and (body := form.encode(outputs)) is not None:
            return body
        named = dict(zip(self._output_aliases, outputs, strict=True))
        body = encode_predict(named, format, nonfinite=self._nonfinite)
        if format not in self._forms:
            self._forms[format] = answer_form(named, format, nonfinite=self._nonfinite)
        return body


class _LaidOut:
    """How bodies of one outline are read, and what is known of their kind."""

    __slots__ = ("format", "known", "layout")

    def __init__(self, known: _Known, layout: PlainLayout, format: Format) -> None:
        self.known = known
        self.layout = layout
        self.format = format


def _shapes(inputs: Mapping[str, np.ndarray]) -> _Shapes:
    """In the order of the request's members; another order is another kind of request."""
    return tuple(array.shape for array in inputs.values())
