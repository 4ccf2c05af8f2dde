"""What was asked and answered by REST, as the messages of gRPC's PredictionService: the form in which it is logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from google.protobuf.message import Message

from pyserving import protos
from pyserving.codec import model_spec, predict_request, predict_response
from pyserving.messages import Buffer
from pyserving.types import ModelSpec, Prediction


class Messages(NamedTuple):
    """As the method takes and gives them."""

    request: bytes
    response: bytes


def predict(spec: ModelSpec, inputs: Mapping[str, np.ndarray], prediction: Prediction) -> Messages:
    """Of a request in JSON, which has no output filter."""
    response = predict_response.encode(prediction.servable_id, prediction.signature_name, prediction.outputs)
    return Messages(predict_request.encode(spec, inputs), response)


def predict_from_proto(spec: ModelSpec, body: Buffer, response: bytes) -> Messages:
    """Of a PredictRequest whose model and version the URL has named."""
    request = protos.PredictRequest.FromString(bytes(body))
    request.ClearField("model_spec")
    model_spec.put(spec, request.model_spec)
    return Messages(request.SerializeToString(), response)


def examples(spec: ModelSpec, input: protos.SerializedInput, response: Message) -> Messages:
    """Of Classify and Regress, whose requests are the same."""
    request = protos.SerializedExampleRequest(input=input)
    model_spec.put(spec, request.model_spec)
    return Messages(request.SerializeToString(), response.SerializeToString())
