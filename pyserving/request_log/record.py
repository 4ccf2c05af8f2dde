"""One answered request as a serialized tensorflow.serving.PredictionLog, joined from the bytes of the wire."""

from __future__ import annotations

from dataclasses import dataclass

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.tensor_proto import encoded_varint
from pyserving.types import ServableId

_LOG_TYPES = {"Classify": b"\x12", "Regress": b"\x1a", "MultiInference": b"\x22", "Predict": b"\x32"}
"""Tags of PredictionLog's fields, by the method of PredictionService."""
_METADATA = b"\x0a"
_REQUEST, _RESPONSE = b"\x0a", b"\x12"
"""Tags within each of these fields."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a line of the log says."""

    api: str
    """A method of PredictionService."""
    servable_id: ServableId
    """The version that answered."""
    signature_name: str
    request: bytes
    """As the method takes it."""
    response: bytes
    timestamp_secs: int

    @property
    def num_bytes(self) -> int:
        """Roughly what it takes while it waits."""
        return len(self.request) + len(self.response) + 256

    def encoded(self, sampling_config: bytes, saved_model_tags: tuple[str, ...]) -> bytes:
        """`sampling_config` is a serialized SamplingConfig."""
        metadata = protos.LogMetadata(saved_model_tags=saved_model_tags, timestamp_secs=self.timestamp_secs)
        model_spec.encode_into(metadata.model_spec, self.servable_id, self.signature_name)
        metadata.sampling_config.MergeFromString(sampling_config)
        log = _field(_REQUEST, self.request) + _field(_RESPONSE, self.response)
        return b"".join((*_field(_METADATA, metadata.SerializeToString()), *_message(_LOG_TYPES[self.api], log)))


def _field(tag: bytes, content: bytes) -> tuple[bytes, ...]:
    return tag, encoded_varint(len(content)), content


def _message(tag: bytes, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tag, encoded_varint(sum(map(len, parts))), *parts
