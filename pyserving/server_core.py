"""ServerCore: what front ends are handed. Resolves specs, runs servables, and makes a new list of models come true."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from pyserving.core import SessionRun
from pyserving.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unknown,
)
from pyserving.lifecycle.handle import ServableHandle
from pyserving.lifecycle.labels import VersionLabels
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.model_config import TENSORFLOW_PLATFORM, platform_of, validate_model_server_config
from pyserving.outcome import Fate, Outcome, failure_text, outcome_of
from pyserving.protos import ModelConfig, ModelServerConfig
from pyserving.signature import SignatureDef
from pyserving.sources.version_policy import MonitoredServable, monitored_servable
from pyserving.types import ModelSpec, Prediction, PreparedPrediction, ServableId, ServableRequest, ServableState

_log = logging.getLogger(__name__)
_LONGEST_MESSAGE = 1000
"""A call's message is cut at 1024 bytes; what it must not lose is how each model stands."""
_MOST_TELLING_SECONDS = 1.0
"""A tenth of a reload's time, and no more than this, is left for its client to hear how far it came: at the deadline
nobody listens any more."""


class Source(Protocol):
    """Where versions come from: FileSystemStoragePathSource, or a fake of it."""

    @property
    def problems(self) -> Mapping[str, str]: ...

    @property
    def settling(self) -> Mapping[str, Mapping[int, str]]: ...

    def update_config(self, servables: Sequence[MonitoredServable]) -> None: ...

    async def scanned(self, names: Collection[str]) -> None: ...


class ServerCore:
    """The models of one server. Everything runs on the loop."""

    def __init__(
        self,
        manager: AspiredVersionsManager,
        monitor: ServableStateMonitor,
        source: Source,
        *,
        allow_version_labels_for_unavailable_models: bool = False,
        platforms: Collection[str] = (TENSORFLOW_PLATFORM,),
    ) -> None:
        """`platforms` are those that models may have."""
        self._manager = manager
        self._monitor = monitor
        self._source = source
        self._platforms = platforms
        self._config: ModelServerConfig | None = None
        self._models: Mapping[str, ModelConfig] = {}
        self._labels = VersionLabels(
            manager.available_versions, allow_unavailable=allow_version_labels_for_unavailable_models
        )
        self.generation = 0
        """Another number whenever a spec may mean another version than it did."""
        monitor.keep_while(manager.is_aspired)  # or nobody could tell a version that has failed from one to come
        manager.serving_map_changed.append(self._labels.apply)
        manager.serving_map_changed.append(self._begin_generation)
        self.config_applied: list[Callable[[Mapping[str, ModelConfig]], None]] = []
        """Each is called with the models by name when there is a new list of them."""

    # Requests.

    async def predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
        *,
        deadline: float | None = None,
        take_in_worker: bool = False,
    ) -> Prediction:
        """Run a signature; `inputs` by alias are taken only once model, signature and names are found right."""
        handle = self._handle(spec)
        with handle as servable:
            prediction: Prediction = await servable.predict(
                handle, spec.signature_name, inputs, output_filter, deadline, take_in_worker
            )
            return prediction

    def prepare(
        self, spec: ModelSpec, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str]
    ) -> PreparedPrediction | None:
        """What `predict` makes of all requests like this one, as long as `generation` does not change.

        None when not all of it can be known; raises what `predict` raises.
        """
        handle = self._handle(spec)
        acquire = partial(self._manager.get_servable_handle, ServableRequest(handle.id.name, handle.id.version))
        with handle as servable:
            prepared: PreparedPrediction | None = servable.prepare(acquire, spec.signature_name, inputs, output_filter)
            return prepared

    def _begin_generation(self) -> None:
        self.generation += 1

    async def run(
        self,
        servable_id: ServableId,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        *,
        deadline: float | None = None,
    ) -> SessionRun:
        """Run by graph tensor names. Called in the same loop turn as `signatures`, it sees the same version."""
        handle = self._manager.get_servable_handle(ServableRequest(servable_id.name, servable_id.version))
        with handle as servable:
            outputs, runtime_micros = await servable.run(handle, feeds, fetches, deadline)
            return SessionRun(outputs, runtime_micros)

    def signatures(self, spec: ModelSpec) -> tuple[ServableId, Mapping[str, SignatureDef]]:
        """All signatures of the version that `spec` resolves to now."""
        with self._handle(spec) as servable:
            return servable.id, servable.signature_defs

    def execution(self, spec: ModelSpec) -> Mapping[str, str]:
        """Where each signature of the version that `spec` resolves to is run now, as Servable has it."""
        with self._handle(spec) as servable:
            places: Mapping[str, str] = servable.execution
            return places

    def metadata(self, spec: ModelSpec) -> tuple[ServableId, bytes]:
        """The serialized tensorflow.serving.SignatureDefMap, as the model has it."""
        with self._handle(spec) as servable:
            return servable.id, servable.signature_def_map

    def model_status(self, spec: ModelSpec) -> list[ServableState]:
        """States of one version, or of all known, newest first. As get_model_status_impl.cc: labels are not read."""
        if spec.version is not None:
            state = self._monitor.state(ServableId(spec.name, spec.version))
            if state is None:
                raise NotFound(f"Could not find version {spec.version} of model {spec.name}")
            return [state]
        states = self._monitor.versions(spec.name)
        if not states:
            problem = self._source.problems.get(spec.name)
            reason = "" if problem is None else f": {problem}"
            raise NotFound(f"Could not find any versions of model {spec.name}{reason}")
        return states

    def _handle(self, spec: ModelSpec) -> ServableHandle:
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        return self._manager.get_servable_handle(ServableRequest(spec.name, self._version(spec)))

    def _version(self, spec: ModelSpec) -> int | None:
        if spec.version_label is None:
            return spec.version
        if not self._labels.is_initialised:
            raise Unavailable(f"Model labels does not init yet.{spec.version_label}")
        version = self._labels.version(spec.name, spec.version_label)
        if version is None:
            raise InvalidArgument(f"Unrecognized servable version label: {spec.version_label}")
        return version

    # Models.

    @property
    def model_names(self) -> list[str]:
        """The configured models, in the order of the config."""
        return list(self._models)

    def version_labels(self, name: str) -> Mapping[str, int]:
        """The labels of a model that requests may use, and the versions they get."""
        return self._labels.of(name)

    @property
    def config(self) -> ModelServerConfig | None:
        """The wish: the last config that was not refused. Another object each time."""
        return self._config

    def platform(self, name: str) -> str:
        """Of a model that is configured."""
        return platform_of(self._models[name])

    def outcomes(self) -> list[Outcome]:
        """How each configured model stands. Means something once the source has scanned."""
        return [self._outcome(name) for name in self._models]

    def apply_config(self, config: ModelServerConfig) -> None:
        """Make `config` the wish, without waiting. A config that is refused changes nothing."""
        models = validate_model_server_config(config, self._config, self._platforms)
        if config.WhichOneof("config") is None:
            return
        for model in models:
            if model.name not in self._models:
                _log.info(" (Re-)adding model: %s", model.name)
        self._config = config
        self._models = {model.name: model for model in models}
        self._begin_generation()
        for applied in self.config_applied:
            applied(self._models)
        self._labels.wish({model.name: dict(model.version_labels) for model in models})
        self._source.update_config([monitored_servable(model) for model in models])

    async def settled(self, *, written_by: float = math.inf, is_strict: bool = False) -> None:
        """Wait until every configured model is AVAILABLE, has failed its first try, or has no version to load.

        `is_strict` waits as TensorFlow Serving does: through all retries, and for models without versions for ever.
        Labels are waited for with the versions they name. Versions that are still being written at `written_by`, in
        `loop.time()` seconds, are not waited for any longer.
        """
        await self._settled(list(self._models), None, _is_over if is_strict else _has_been_tried, written_by)

    async def reload_config(self, config: ModelServerConfig, *, deadline: float | None = None) -> None:
        """Make `config` the wish, try afresh what has failed, and wait as `came_true` does: not quite to `deadline`."""
        deadline = _in_time_to_tell(deadline)
        self.apply_config(config)
        names = [model.name for model in config.model_config_list.config]
        with suppress(asyncio.TimeoutError):  # told below
            await _until(deadline, self._source.scanned(names))  # a model may have another path now, which counts first
        for model in config.model_config_list.config:
            for version in self._manager.aspired_versions(model.name):
                self._manager.retry(ServableId(model.name, version))
        await self.came_true(config, deadline=deadline)

    async def came_true(self, config: ModelServerConfig, *, deadline: float | None = None) -> None:
        """Wait until every model of `config`, which was applied, serves or cannot.

        Unknown when models did not become available, those among them that a newer config has removed;
        DeadlineExceeded when it took too long: either lists every model's outcome. FailedPrecondition when a label
        names a version that does not come. None of them takes anything of the wish back.
        """
        outcomes = await self._settled_outcomes([model.name for model in config.model_config_list.config], deadline)
        if failed := [outcome for outcome in outcomes if outcome.fate is not Fate.AVAILABLE]:
            without_reasons = [replace(outcome, error=None) for outcome in failed]
            raise Unknown(_message(failure_text(failed, "model"), failure_text(without_reasons, "model"), outcomes))
        for error in self.label_errors(config):
            raise error
        _log.info("Finished adding/updating models")

    async def _settled_outcomes(self, names: Sequence[str], deadline: float | None) -> list[Outcome]:
        while True:
            is_settled = await self._settled(names, deadline, lambda outcome: outcome.is_settled)
            outcomes = [self._outcome(name) for name in names]
            if not is_settled:
                sentence = f"The deadline passed before {self._missing(outcomes)}."
                raise DeadlineExceeded(_message(sentence, sentence, outcomes))
            # What was seen in passing may be over by now: a failure, say, of a path that is another since.
            if all(outcome.is_settled for outcome in outcomes):
                return outcomes

    def _missing(self, outcomes: Sequence[Outcome]) -> str:
        """What is waited for yet."""
        if not all(outcome.is_settled for outcome in outcomes):
            return "every model was available"
        names = [outcome.name for outcome in outcomes]
        for name, label, version in self._labels.waiting():
            if name in names and self._is_coming(ServableId(name, version)):
                return f"version {version} of model {name}, which is to have the label {label}, was available"
        return "every base path was looked at"

    def label_errors(self, config: ModelServerConfig) -> Iterator[FailedPrecondition]:
        """One for each label of `config` that does not answer with its version, and was given no other since."""
        waiting = set(self._labels.waiting())
        for model in config.model_config_list.config:
            for label, version in model.version_labels.items():
                if (model.name, label, version) in waiting:
                    yield FailedPrecondition(
                        f"Request to assign label to version {version} of model {model.name}, which is not currently "
                        "available for inference"
                    )

    async def _settled(
        self,
        names: Collection[str],
        deadline: float | None,
        is_enough: Callable[[Outcome], bool],
        written_by: float = math.inf,
    ) -> bool:
        try:
            await _until(deadline, self._source.scanned(names))
        except asyncio.TimeoutError:
            return False
        now = asyncio.get_running_loop().time  # asked again at each scan, and what is being written is scanned often
        return await self._monitor.wait_until(
            lambda: self._is_settled(names, is_enough, waits_for_writers=now() < written_by), deadline
        )

    def _outcome(self, name: str) -> Outcome:
        if name not in self._models:
            return Outcome(name, Fate.FAILED, error=Aborted("A newer config does not list the model"))
        return outcome_of(
            name,
            self._monitor.versions(name),
            self._manager.aspired_versions(name),
            problem=self._source.problems.get(name),
            is_settling=bool(self._source.settling.get(name)),
        )

    def _is_settled(
        self, names: Collection[str], is_enough: Callable[[Outcome], bool], *, waits_for_writers: bool
    ) -> bool:
        outcomes = map(self._outcome, names)
        labelled = [ServableId(name, version) for name, _, version in self._labels.waiting() if name in names]
        return all(is_enough(outcome) or (outcome.is_expecting and not waits_for_writers) for outcome in outcomes) and (
            not any(self._is_coming(id, waits_for_writers) for id in labelled)
        )

    def _is_coming(self, id: ServableId, waits_for_writers: bool = True) -> bool:
        """Whether a version is still being written, or wished for and in no trouble yet."""
        if waits_for_writers and id.version in self._source.settling.get(id.name, ()):
            return True
        state = self._monitor.state(id)
        return id.version in self._manager.aspired_versions(id.name) and (state is None or state.health is None)


def _has_been_tried(outcome: Outcome) -> bool:
    """Enough for the others not to wait any longer."""
    return outcome.fate is not Fate.PENDING


def _is_over(outcome: Outcome) -> bool:
    """As far as TensorFlow Serving waits at start."""
    return outcome.fate is Fate.AVAILABLE or (
        outcome.fate is Fate.FAILED and outcome.is_settled and not outcome.has_retries_left
    )


def _message(sentence: str, short_sentence: str, outcomes: Sequence[Outcome]) -> str:
    """What a reload fails with. Where a call's message has no room for all of it, the log has it."""
    whole = f"{sentence} {_report(outcomes)}"
    if _has_room(whole):
        return whole
    _log.warning("%s", whole)
    shorter = f"{short_sentence} {_report(outcomes)}"
    return shorter if _has_room(shorter) else f"{short_sentence} {_short_report(outcomes)}"


def _has_room(text: str) -> bool:
    return len(text.encode(errors="replace")) <= _LONGEST_MESSAGE


def _report(outcomes: Sequence[Outcome]) -> str:
    """Every model's fate, for the operator who reads one message."""
    return "Models: " + ", ".join(f"{outcome.name} {outcome.fate.value}" for outcome in outcomes)


def _short_report(outcomes: Sequence[Outcome]) -> str:
    """The fate of those that do not serve, and how many do."""
    others = [f"{outcome.name} {outcome.fate.value}" for outcome in outcomes if outcome.fate is not Fate.AVAILABLE]
    available = len(outcomes) - len(others)
    return "Models: " + ", ".join([f"{available} available", *others])


def _in_time_to_tell(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    seconds = max(0.0, deadline - asyncio.get_running_loop().time())
    return deadline - min(seconds / 10, _MOST_TELLING_SECONDS)


async def _until(deadline: float | None, awaitable: Awaitable[None]) -> None:
    timeout = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
    await asyncio.wait_for(awaitable, timeout)
