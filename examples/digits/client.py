"""Ask a server of the digits model what it sees: Predict and Classify over gRPC, without TensorFlow.

Run it as `python examples/digits/client.py --port 8500 --rows 10` beside data.py, which has the digits.
"""

from __future__ import annotations

import argparse
import sys

import grpc
import numpy as np
from data import Digits, picture, split

from pyserving import protos

SERVICE = "/tensorflow.serving.PredictionService"
TIMEOUT_SECONDS = 10
DT_FLOAT = protos.DataType.Value("DT_FLOAT")


def predict(channel: grpc.Channel, model: str, images: np.ndarray) -> protos.PredictResponse:
    """Send pictures, float32 [n, 64], as one tensor; the answer holds `scores` and `label`."""
    request = protos.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs["image"]
    tensor.dtype = DT_FLOAT
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = images.astype("<f4").tobytes()
    call = channel.unary_unary(
        f"{SERVICE}/Predict", protos.PredictRequest.SerializeToString, protos.PredictResponse.FromString
    )
    return call(request, timeout=TIMEOUT_SECONDS)


def classify(channel: grpc.Channel, model: str, images: np.ndarray) -> protos.ClassificationResponse:
    """Send pictures, float32 [n, 64], as a tf.Example each; the answer holds a score for every class."""
    request = protos.ClassificationRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "classify"
    for image in images:
        example = request.input.example_list.examples.add()
        example.features.feature["image"].float_list.value.extend(image.tolist())
    call = channel.unary_unary(
        f"{SERVICE}/Classify", protos.ClassificationRequest.SerializeToString, protos.ClassificationResponse.FromString
    )
    return call(request, timeout=TIMEOUT_SECONDS)


def show(digits: Digits, prediction: protos.PredictResponse, classification: protos.ClassificationResponse) -> None:
    print(picture(digits.images[0]))
    print(f"{'true':>8}{'predict':>9}{'classify':>10}{'score':>8}")
    answers = zip(
        digits.labels, prediction.outputs["label"].int64_val, classification.result.classifications, strict=True
    )
    for true, label, scored in answers:
        best = max(scored.classes, key=lambda scored_class: scored_class.score)
        print(f"{true:>8}{label:>9}{best.label:>10}{best.score:>8.3f}")
    right = sum(digits.labels == list(prediction.outputs["label"].int64_val))
    spec = prediction.model_spec
    print(f"{right} of {len(digits.labels)} right, by version {spec.version.value} of {spec.name}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Show held-back digits to a server.")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8500, help="gRPC port of the server; default 8500")
    parser.add_argument("--rows", type=int, default=10, help="how many digits to send, 1 to 360; default 10")
    parser.add_argument("--model", default="digits", help="name the model is served under; default digits")
    arguments = parser.parse_args()

    _, held_back = split()
    digits = Digits(held_back.images[: arguments.rows], held_back.labels[: arguments.rows])
    with grpc.insecure_channel(f"{arguments.host}:{arguments.port}") as channel:
        try:
            prediction = predict(channel, arguments.model, digits.images)
            classification = classify(channel, arguments.model, digits.images)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    show(digits, prediction, classification)
    return 0


if __name__ == "__main__":
    sys.exit(main())
