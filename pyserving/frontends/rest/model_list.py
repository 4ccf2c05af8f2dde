"""GET /v1/models: every model of the server, its versions and labels, what each serving version can be asked, and where
its signatures are run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from pyserving.errors import Code, NotFound, ServingError
from pyserving.signature import SignatureDef, TensorInfo
from pyserving.types import ManagerState, ModelSpec, ServableId, ServableState


class Models(Protocol):
    """The models of a server: ServerCore, or a fake of it."""

    @property
    def model_names(self) -> Iterable[str]: ...

    def version_labels(self, name: str) -> Mapping[str, int]: ...

    def model_status(self, spec: ModelSpec) -> Sequence[ServableState]: ...

    def signatures(self, spec: ModelSpec) -> tuple[ServableId, Mapping[str, SignatureDef]]: ...

    def execution(self, spec: ModelSpec) -> Mapping[str, str]: ...


def models_json(models: Models) -> bytes:
    """A JSON object with the list `models`, in the order of the config; versions newest first."""
    page = {"models": [_model(models, name) for name in models.model_names]}
    return json.dumps(page, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def available_signatures(models: Models, name: str) -> Iterator[tuple[int, Mapping[str, SignatureDef]]]:
    """Each version that takes requests, newest first, with its signatures."""
    for state in _states(models, name):
        if state.manager_state is ManagerState.AVAILABLE:
            with suppress(ServingError):  # it may be on its way out
                yield state.id.version, models.signatures(ModelSpec(name, state.id.version))[1]


def _model(models: Models, name: str) -> dict[str, Any]:
    labels = models.version_labels(name)
    signatures = dict(available_signatures(models, name))
    versions = []
    for state in _states(models, name):
        found = signatures.get(state.id.version)
        # Within this turn of the loop no version leaves that has shown its signatures.
        execution = models.execution(ModelSpec(name, state.id.version)) if found is not None else {}
        versions.append(_version(state, labels, found or {}, execution))
    return {"name": name, "versions": versions}


def _states(models: Models, name: str) -> Sequence[ServableState]:
    try:
        return models.model_status(ModelSpec(name))
    except NotFound:
        return []


def _version(
    state: ServableState,
    labels: Mapping[str, int],
    signatures: Mapping[str, SignatureDef],
    execution: Mapping[str, str],
) -> dict[str, Any]:
    error = state.health
    return {
        "version": str(state.id.version),
        "state": state.manager_state.name,
        "status": {
            "error_code": (error.code if error else Code.OK).name,
            "error_message": error.message if error else "",
        },
        "labels": sorted(label for label, version in labels.items() if version == state.id.version),
        "signatures": {name: _signature(signature) for name, signature in sorted(signatures.items())},
        "execution": dict(sorted(execution.items())),
    }


def _signature(signature: SignatureDef) -> dict[str, Any]:
    return {
        "method_name": signature.method_name,
        "inputs": {alias: _tensor(info) for alias, info in sorted(signature.inputs.items())},
        "outputs": {alias: _tensor(info) for alias, info in sorted(signature.outputs.items())},
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {"dtype": info.dtype.name, "shape": None if info.shape is None else list(info.shape)}
