"""Time a PredictRequest to arrays, and arrays to a PredictResponse: by protobuf and as the server does it.

    python benchmarks/bench_predict_codec.py

Microseconds of processor time a call, medians of rounds in which the columns take turns. `ours` is a request whose
layout has been seen, or that protobuf has to read; `scanned` one that is mapped for the first time, which is done to a
request from PredictDecoder.LARGE_BYTES on and to a few of the smaller ones.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from statistics import median
from time import thread_time

import google.protobuf
import numpy as np

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.message import parse
from pyserving.codec.predict_response import encode
from pyserving.codec.predict_wire import PredictCall, PredictDecoder, scan
from pyserving.codec.tensor_proto import TensorProtoInputs, encode_into
from pyserving.types import ServableId

ROUNDS = 61
ROUND_SECONDS = 0.004
IMAGE = (1, 224, 224, 3)
VARYING = np.int64([300, -1, 5])
"""As varints, which no array is."""
ID = ServableId("half_plus_two", 123)


def medians(alternatives: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds of each, measured in turns."""
    numbers = {name: calls_in_a_round(function) for name, function in alternatives.items()}
    micros: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(ROUNDS):
        for name, function in alternatives.items():
            micros[name].append(seconds(function, numbers[name]) / numbers[name] * 1e6)
    return {name: median(times) for name, times in micros.items()}


def calls_in_a_round(function: Callable[[], object]) -> int:
    function()  # the first call is another matter
    number = 1
    while seconds(function, number) < ROUND_SECONDS:
        number *= 2
    return number


def seconds(function: Callable[[], object], number: int) -> float:
    began = thread_time()
    for _ in range(number):
        function()
    return thread_time() - began


def request(array: np.ndarray, as_content: bool) -> bytes:
    message = protos.PredictRequest()
    message.model_spec.name = ID.name
    encode_into(array, message.inputs["x"], as_content=as_content)
    return message.SerializeToString()


def read_by_protobuf(body: bytes) -> np.ndarray:
    message = parse(protos.PredictRequest, body)
    assert message.HasField("model_spec")
    spec, inputs = model_spec.decode(message.model_spec), TensorProtoInputs(message.inputs)
    return PredictCall(spec, inputs, message.output_filter, inputs.num_expanded_bytes()).inputs["x"]


def read_scanned(body: bytes) -> np.ndarray:
    layout = scan(body)
    assert layout is not None
    return layout.call(body).inputs["x"]


def written_by_protobuf(array: np.ndarray, as_content: bool) -> bytes:
    response = protos.PredictResponse()
    encode_into(array, response.outputs["y"], as_content=as_content)
    model_spec.encode_into(response.model_spec, ID, "serving_default")
    return response.SerializeToString()


def request_row(array: np.ndarray, as_content: bool) -> dict[str, float]:
    body = request(array, as_content)
    decoder = PredictDecoder()
    columns: dict[str, Callable[[], object]] = {
        "protobuf": lambda: read_by_protobuf(body),
        "ours": lambda: decoder.decode(body).inputs["x"],
    }
    if scan(body):
        columns["scanned"] = lambda: read_scanned(body)
    return medians(columns)


def response_row(array: np.ndarray, as_content: bool) -> dict[str, float]:
    outputs = {"y": array}
    return medians(
        {
            "protobuf": lambda: written_by_protobuf(array, as_content),
            "ours": lambda: encode(ID, "serving_default", outputs, as_content=as_content),
        }
    )


def main() -> None:
    random = np.random.default_rng(0)
    print(f"| {'':8} | {'elements':>20} | {'field':14} | {'protobuf':>8} | {'ours':>8} | {'scanned':>8} |")
    print("|---|---:|---|---:|---:|---:|")
    floats = [random.random(shape, np.float32) for shape in ((3,), (1000,), (16_000,), (64_000,), IMAGE)]
    for array in floats:
        show("request", array, "float_val", request_row(array, as_content=False))
        show("request", array, "tensor_content", request_row(array, as_content=True))
    show("request", VARYING, "int64_val", request_row(VARYING, as_content=False))
    for shape in ((3,), (1000,), (90_000,)):
        array = random.random(shape, np.float32)
        show("answer", array, "float_val", response_row(array, as_content=False))
        show("answer", array, "tensor_content", response_row(array, as_content=True))
    print(
        f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, protobuf {google.protobuf.__version__}"
    )


def show(what: str, array: np.ndarray, field: str, micros: Mapping[str, float]) -> None:
    elements = f"{'x'.join(map(str, array.shape))} {array.dtype}"
    cells = " | ".join(
        f"{micros[name]:8.1f}" if name in micros else " " * 8 for name in ("protobuf", "ours", "scanned")
    )
    print(f"| {what:8} | {elements:>20} | {field:14} | {cells} |")


if __name__ == "__main__":
    main()
