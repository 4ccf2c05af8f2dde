"""Predict, for requests like those that came before: answered within one turn of the loop, as nothing is left to check.

What a request asks for is found out, and its answer shaped, by PredictionService. Clients send many more that differ in
the elements of their tensors alone; these come here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

import numpy as np

from pyserving.codec.predict_response import Template
from pyserving.codec.predict_wire import Elements, PredictCall, PredictDecoder, RequestLayout
from pyserving.core import Core
from pyserving.errors import ServingError
from pyserving.messages import Buffer, Later
from pyserving.metrics import Metrics, RequestCells
from pyserving.types import PreparedPrediction


class QuickPredict:
    """Knows how to answer some layouts of requests, until models change."""

    MAX_KNOWN = PredictDecoder.MAX_LAYOUTS

    def __init__(
        self,
        core: Core,
        metrics: Metrics,
        decoder: PredictDecoder,
        *,
        runtime: str,
        max_answer_bytes: int,
        as_content: bool = False,
    ) -> None:
        """`runtime` is a label of the metrics; `as_content` how tensors are written.

        Whose answer takes `max_answer_bytes` or more goes the long way from then on.
        """
        self._core = core
        self._metrics = metrics
        self._decoder = decoder
        self._runtime = runtime
        self._max_answer_bytes = max_answer_bytes
        self._as_content = as_content
        self._known: dict[RequestLayout, _Known | None] = {}
        self._generation = core.generation

    def __call__(self, body: Buffer, deadline: float | None) -> bytes | Later | None:
        """The answer, if it can be had within this turn of the loop."""
        layout = self._decoder.layout(body)
        if layout is None or self._generation != self._core.generation:
            return None
        known = self._known.get(layout)
        if known is None or (deadline is not None and deadline <= monotonic()):  # which is the loop's clock
            return None
        answer = known.answer(body)
        if known.num_answer_bytes >= self._max_answer_bytes:
            self._known[layout] = None
        return answer

    def learn(self, request: PredictCall, num_answer_bytes: int) -> None:
        """A request that has been answered, with arrays of so many bytes: how to answer the next one of its layout."""
        if self._generation != self._core.generation:
            self._generation = self._core.generation
            self._known.clear()
        layout = request.layout
        if layout is None or layout in self._known:
            return
        if len(self._known) >= self.MAX_KNOWN:
            self._known.clear()
        is_small = num_answer_bytes < self._max_answer_bytes
        self._known[layout] = self._prepared(request, layout) if is_small else None

    def _prepared(self, request: PredictCall, layout: RequestLayout) -> _Known | None:
        """None for what has to go the long way."""
        if request.model_spec is None or None in layout.elements.values():
            return None
        try:
            prepared = self._core.prepare(request.model_spec, request.inputs, request.output_filter)
        except ServingError:
            return None
        if prepared is None:
            return None
        return _Known(
            prepared,
            layout.elements,
            self._metrics,
            RequestCells(
                self._metrics,
                "Predict",
                "GRPC",
                self._runtime,
                (prepared.servable_id.name, str(prepared.servable_id.version), prepared.signature_name),
            ),
            self._as_content,
        )


class _Known:
    """Answers requests of one layout."""

    __slots__ = ("_cells", "_clock", "_places", "_rows", "_run", "_template", "num_answer_bytes")

    def __init__(
        self,
        prepared: PreparedPrediction,
        elements: Mapping[str, Elements | None],
        metrics: Metrics,
        cells: RequestCells,
        as_content: bool,
    ) -> None:
        self._run = prepared.run
        self._places = _places(prepared.input_aliases, elements)
        self._rows = _rows(self._places)
        self._clock = metrics.clock
        self._cells = cells
        self.num_answer_bytes = 0
        """Of the last answer."""
        self._template = Template(
            prepared.servable_id, prepared.signature_name, prepared.output_aliases, as_content=as_content
        )

    def answer(self, body: Buffer) -> bytes | Later | None:
        began = self._clock()
        if self._rows is not None:
            arrays = [np.frombuffer(body, dtype, count, start) for dtype, count, start in self._rows]
        else:
            arrays = [np.ndarray(shape, dtype, body, start) for shape, dtype, start in self._places]
        try:
            run = self._run(arrays)
            if run is None:
                return None
            if isinstance(run, Later):
                run.began, run.finish = began, self._finish
                return run
            outputs, runtime_micros = run
            answer = self._template.encode(outputs)
            self.num_answer_bytes = len(answer)
        except Exception as error:
            self._cells.failed((self._clock() - began) // 1000, error)
            raise
        self._cells.answered((self._clock() - began) // 1000, runtime_micros)
        return answer

    def _finish(self, later: Later, outcome: Sequence[np.ndarray] | Exception, runtime_micros: float) -> None:
        """The run that was put off is over."""
        answer = outcome if isinstance(outcome, Exception) else self._encoded(outcome)
        micros = (self._clock() - later.began) // 1000
        if isinstance(answer, Exception):
            self._cells.failed(micros, answer)
        else:
            self._cells.answered(micros, runtime_micros)
            self.num_answer_bytes = len(answer)
        later.deliver(later, answer)

    def _encoded(self, outputs: Sequence[np.ndarray]) -> bytes | Exception:
        try:
            return self._template.encode(outputs)
        except Exception as error:  # as `answer` would raise it
            return error


def _places(
    aliases: Sequence[str], elements: Mapping[str, Elements | None]
) -> list[tuple[tuple[int, ...], np.dtype, int]]:
    places = (elements[alias] for alias in aliases)
    return [(place.shape, place.dtype, place.where.start) for place in places if place is not None]


def _rows(places: list[tuple[tuple[int, ...], np.dtype, int]]) -> list[tuple[np.dtype, int, int]] | None:
    """The places, where all arrays have one dimension: they are made in half the time. None elsewhere."""
    if any(len(shape) != 1 or shape[0] == 0 for shape, _, _ in places):
        return None
    return [(dtype, shape[0], start) for shape, dtype, start in places]
