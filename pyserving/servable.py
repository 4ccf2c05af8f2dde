"""One loaded version: checks a request against its signatures, in TensorFlow Serving's order and words, and runs it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import partial

import numpy as np

from pyserving.errors import FailedPrecondition, Internal, InvalidArgument, ServingError
from pyserving.executors.executor import Executor
from pyserving.session import Handle, Session
from pyserving.signature import (
    CLASSIFY_METHOD_NAME,
    DEFAULT_SIGNATURE_NAME,
    PREDICT_METHOD_NAME,
    REGRESS_METHOD_NAME,
    SignatureDef,
)
from pyserving.types import Prediction, PreparedPrediction, ServableId

_PREDICTABLE = (PREDICT_METHOD_NAME, CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME)


@dataclass(frozen=True, slots=True)
class _Signature:
    """A signature with what a request needs of it worked out at load."""

    name: str
    definition: SignatureDef
    input_aliases: tuple[str, ...]
    feeds: tuple[str, ...]
    """Graph tensor names, in the order of `input_aliases`."""
    output_aliases: tuple[str, ...]
    fetches: tuple[str, ...]
    """Graph tensor names, in the order of `output_aliases`."""


def _planned(name: str, definition: SignatureDef) -> _Signature:
    inputs, outputs = sorted(definition.inputs), sorted(definition.outputs)
    return _Signature(
        name,
        definition,
        tuple(inputs),
        tuple(definition.inputs[alias].name for alias in inputs),
        tuple(outputs),
        tuple(definition.outputs[alias].name for alias in outputs),
    )


class Servable:
    """A model version that answers requests."""

    def __init__(
        self,
        servable_id: ServableId,
        executor: Executor,
        session: Session,
        *,
        enable_signature_method_name_check: bool = False,
    ) -> None:
        """Plans every signature, in the loading thread. One that cannot be planned keeps its error for whoever asks."""
        self.id = servable_id
        self.signature_defs = executor.signature_defs
        self.signature_def_map = executor.signature_def_map
        self._session = session
        self._check_method_name = enable_signature_method_name_check
        self._signatures = {name: _planned(name, sig) for name, sig in executor.signature_defs.items()}
        for signature in self._signatures.values():
            with suppress(ServingError):
                session.plan(signature.feeds, signature.fetches)

    def in_calling_thread(self, observe: Callable[[float], None]) -> Servable:
        """This version for its loading thread alone: all its runs are made there and then, after the same checks.

        `observe(micros)` hears of each. Handles and deadlines are not read, and coroutines never wait.
        """
        twin = copy(self)
        twin._session = self._session.in_calling_thread(observe)
        return twin

    @property
    def execution(self) -> dict[str, str]:
        """Where each signature that can be run is run now: `loop`, `workers`, `batched` or `mixed`."""
        places = {}
        for signature in self._signatures.values():
            with suppress(ServingError):
                plan = self._session.plan(signature.feeds, signature.fetches)
                places[signature.name] = self._session.place(plan)
        return places

    async def predict(
        self,
        handle: Handle | None,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str],
        deadline: float | None,
        take_in_worker: bool = False,
    ) -> Prediction:
        """Names are checked before the first tensor is taken out of `inputs`. As predict_util.cc."""
        signature = self._signature(signature_name)
        _check_input_names(signature.definition, inputs)
        if take_in_worker:
            arrays = await self._session.offload(partial(_taken, signature, inputs))
        else:
            arrays = _taken(signature, inputs)
        if output_filter:
            aliases = _checked_output_filter(signature.definition, output_filter)
            fetches = tuple(signature.definition.outputs[alias].name for alias in aliases)
            plan = await self._session.subset_plan(signature.feeds, fetches, handle, deadline)
        else:
            aliases = signature.output_aliases
            plan = self._session.plan(signature.feeds, signature.fetches)
        run = await self._session.run(plan, arrays, handle, deadline)
        return Prediction(self.id, signature.name, dict(zip(aliases, run.outputs, strict=True)), run.runtime_micros)

    def prepare(
        self,
        acquire: Callable[[], Handle],
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str],
    ) -> PreparedPrediction | None:
        """All that `predict` finds out from these inputs besides their elements; None when some of it is not at hand.

        `acquire` gives another handle on this version, for as long as it serves. Raises what `predict` raises.
        """
        signature = self._signature(signature_name)
        _check_input_names(signature.definition, inputs)
        if output_filter or any(alias not in inputs for alias in signature.input_aliases):
            return None
        arrays = [inputs[alias] for alias in signature.input_aliases]
        plan = self._session.plan(signature.feeds, signature.fetches)
        plan.check_dtypes(arrays)
        run, run_at_once = self._session.prepare(plan, arrays, acquire)
        return PreparedPrediction(
            self.id, signature.name, signature.input_aliases, signature.output_aliases, run, run_at_once
        )

    async def run(
        self,
        handle: Handle | None,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        deadline: float | None,
    ) -> tuple[Mapping[str, np.ndarray], float]:
        """Run by graph tensor names; gives outputs by tensor name and the run's microseconds."""
        names = tuple(fetches)
        plan = await self._session.subset_plan(tuple(feeds), names, handle, deadline)
        run = await self._session.run(plan, list(feeds.values()), handle, deadline)
        return dict(zip(names, run.outputs, strict=True)), run.runtime_micros

    def _signature(self, name: str) -> _Signature:
        name = name or DEFAULT_SIGNATURE_NAME
        try:
            signature = self._signatures[name]
        except KeyError:
            raise FailedPrecondition(f'Serving signature key "{name}" not found.') from None
        if self._check_method_name and signature.definition.method_name not in _PREDICTABLE:
            raise Internal(
                "Expected prediction signature method_name to be one of "
                f"{{{', '.join(_PREDICTABLE)}}}. Was: {signature.definition.method_name}"
            )
        return signature


def _taken(signature: _Signature, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    defaults = signature.definition.defaults
    return [inputs[alias] if alias in inputs else defaults[alias] for alias in signature.input_aliases]


def _listed(names: Collection[str]) -> str:
    return ",".join(sorted(names))


def _check_input_names(signature: SignatureDef, inputs: Collection[str]) -> None:
    expected, defaults, given = signature.inputs, signature.defaults, set(inputs)
    if len(given) > len(expected) or (len(given) < len(expected) and not defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(given)}!={len(expected)} "
            f"len({{{_listed(given)}}}) != len({{{_listed(expected)}}}). "
            f"Sent extra: {{{_listed(given - set(expected))}}}. "
            f"Missing but required: {{{_listed(set(expected) - given)}}}."
        )
    for alias in sorted(expected):
        if alias not in given and alias not in defaults:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {expected[alias].name}) not found in request and no "
                f"default value provided. Inputs expected to be in the request {{{_listed(given)}}}, "
                f"or default input alias set: {{{_listed(defaults)}}}"
            )
    if unknown := given - set(expected):
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_listed(given - unknown)}, "
            f"request input: {_listed(given)}"
        )


def _checked_output_filter(signature: SignatureDef, output_filter: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for alias in output_filter:
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_listed(signature.outputs)}}}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen[alias] = None
    return tuple(seen)
