"""Client: the methods of PredictionService and ModelService with Python's own values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from pyserving import protos
from pyserving.client.arrays import as_array
from pyserving.client.channel import Channel, Tls
from pyserving.codec import model_spec, predict_request, signature_def, tensor_proto
from pyserving.errors import Internal, InvalidArgument, ServingError, error_for
from pyserving.signature import DEFAULT_SIGNATURE_NAME, SignatureDef
from pyserving.types import ModelSpec, ServableId

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """How one version of a model stands."""

    version: int
    state: str
    """`AVAILABLE`, `LOADING` and so on, as the proto names them."""
    error: ServingError | None = None
    """Of its last load; None when all is well."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a version of a model can be asked."""

    servable_id: ServableId
    signatures: Mapping[str, SignatureDef]


class Client:
    """Asks one server. Threads may share it; `with` closes it.

    Every method raises the ServingError of the server's status: `pyserving.errors.NotFound`, `Unavailable` and so on.
    Timeouts are in seconds; None takes that of the client. A client that was closed raises ValueError, as files do.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None = None,
        timeout: float | None = 60.0,
        metadata: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> None:
        """`target` is `host:port` or `unix:/path`; `metadata` goes with every call, and so does `token`, where the
        server asks for one, as `authorization: Bearer TOKEN`.

        A `timeout` of None waits as long as it takes. Raises OSError for a certificate file that cannot be read,
        InvalidArgument for one that is no PEM and for metadata that cannot be sent.
        """
        shown = {"authorization": f"Bearer {token}"} if token else {}
        self._channel = Channel(target, tls, {**(metadata or {}), **shown})
        self._timeout = timeout
        self._signatures: dict[ModelSpec, SignatureDef] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """The outputs by alias, all of them or those named in `outputs`; strings come as object arrays of bytes.

        An array among `inputs` is sent as it is. Anything else (lists, numbers, strings) becomes an array of the type
        that the signature wants, for which the server is asked once. Without `version` and `label` the latest answers.
        """
        spec = _spec(model, version, label, signature)
        arrays = self._arrays(spec, inputs, timeout)
        try:
            answer = self._call(_PREDICTION + "Predict", predict_request.encode(spec, arrays, outputs), timeout)
        except InvalidArgument:
            self._signatures.pop(spec, None)  # a version may have come meanwhile that wants other types
            raise
        response = protos.PredictResponse.FromString(answer)
        return {alias: _decoded(alias, tensor) for alias, tensor in response.outputs.items()}

    def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> ModelMetadata:
        """The signatures of a version, the latest unless told otherwise."""
        request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        model_spec.put(_spec(model, version, label), request.model_spec)
        answer = self._call(_PREDICTION + "GetModelMetadata", request.SerializeToString(), timeout)
        response = protos.GetModelMetadataResponse.FromString(answer)
        signatures = protos.SignatureDefMap.FromString(response.metadata["signature_def"].value)
        return ModelMetadata(
            ServableId(response.model_spec.name, response.model_spec.version.value),
            {name: signature_def.decode(proto) for name, proto in signatures.signature_def.items()},
        )

    def status(self, model: str, *, version: int | None = None, timeout: float | None = None) -> list[VersionStatus]:
        """All versions that the server knows of, newest first, or one."""
        request = protos.GetModelStatusRequest()
        model_spec.put(_spec(model, version), request.model_spec)
        answer = self._call(_MODEL + "GetModelStatus", request.SerializeToString(), timeout)
        return [_status(entry) for entry in protos.GetModelStatusResponse.FromString(answer).model_version_status]

    def reload(self, config: protos.ModelServerConfig, *, timeout: float | None = None) -> None:
        """Have the server serve this list of models, and wait until it does."""
        request = protos.ReloadConfigRequest(config=config)
        answer = self._call(_MODEL + "HandleReloadConfigRequest", request.SerializeToString(), timeout)
        status = protos.ReloadConfigResponse.FromString(answer).status
        if status.error_code:
            raise error_for(status.error_code, status.error_message)

    def call(self, path: str, body: bytes, *, timeout: float | None = None) -> bytes:
        """Any unary method by its full path, with the bytes of its messages."""
        return self._call(path, body, timeout)

    def _call(self, path: str, body: bytes, timeout: float | None) -> bytes:
        return self._channel.call(path, body, self._timeout if timeout is None else timeout)

    def _arrays(self, spec: ModelSpec, inputs: Mapping[str, Any], timeout: float | None) -> dict[str, np.ndarray]:
        if all(isinstance(value, np.ndarray) for value in inputs.values()):
            return {alias: as_array(value) for alias, value in inputs.items()}
        types = {alias: info.dtype for alias, info in self._signature(spec, timeout).inputs.items()}
        return {alias: as_array(value, types.get(alias)) for alias, value in inputs.items()}

    def _signature(self, spec: ModelSpec, timeout: float | None) -> SignatureDef:
        """Asked for once: the types of a signature's inputs seldom change from version to version."""
        if spec not in self._signatures:
            found = self.metadata(spec.name, version=spec.version, label=spec.version_label, timeout=timeout).signatures
            name = spec.signature_name or DEFAULT_SIGNATURE_NAME
            if name not in found:
                raise InvalidArgument(f"Model {spec.name} has no signature {name}; it has {', '.join(sorted(found))}")
            self._signatures[spec] = found[name]
        return self._signatures[spec]


def _spec(model: str, version: int | None = None, label: str | None = None, signature: str = "") -> ModelSpec:
    if version is not None and label is not None:
        raise ValueError("A version is chosen by its number or by its label, not by both")
    return ModelSpec(model, version, label, signature)


def _decoded(alias: str, tensor: protos.TensorProto) -> np.ndarray:
    try:
        return tensor_proto.decode(tensor)
    except ValueError as error:
        raise Internal(f"The server's output {alias} is no array: {error}") from error


def _status(entry: protos.ModelVersionStatus) -> VersionStatus:
    error = error_for(entry.status.error_code, entry.status.error_message) if entry.status.error_code else None
    return VersionStatus(entry.version, protos.ModelVersionStatus.State.Name(entry.state), error)
