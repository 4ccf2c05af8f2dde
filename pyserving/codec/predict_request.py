"""PredictRequests from arrays: what a client sends, and what a log holds of a request that came in another form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.tensor_proto import encode_into
from pyserving.types import ModelSpec


def encode(spec: ModelSpec, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str] = ()) -> bytes:
    """Numbers as raw bytes, which a server can take where they lie; strings, object arrays of bytes, one by one.

    ValueError for an array that TensorFlow has no type for.
    """
    request = protos.PredictRequest(output_filter=output_filter)
    model_spec.put(spec, request.model_spec)
    for alias, array in inputs.items():
        encode_into(array, request.inputs[alias], as_content=not array.dtype.hasobject)
    return request.SerializeToString()
