"""Model status and metadata as JSON, in the layout of TensorFlow Serving's own printing of its protos."""

from __future__ import annotations

from collections.abc import Sequence

from pyserving.types import ServableId, ServableState


def encode_model_status(states: Sequence[ServableState]) -> bytes:
    """The body of GET /v1/models/NAME: `states` in their order (the core gives the newest first), newline at the end."""
    raise NotImplementedError


def encode_metadata(servable_id: ServableId, signature_def_map: bytes) -> bytes:
    """The body of GET .../metadata; `signature_def_map` is the serialized tensorflow.serving.SignatureDefMap."""
    raise NotImplementedError
