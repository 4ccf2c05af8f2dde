"""The mapped PredictRequest beside protobuf's, on messages good and bad: same values, same refusals.

As a script, with the repository on PYTHONPATH, it goes on for the seconds that are its first argument, from the seed
that is its second.
"""

from __future__ import annotations

import sys
import time
from random import Random

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.predict_wire import PredictDecoder, scan
from pyserving.codec.tensor_proto import decode
from pyserving.errors import ServingError
from tests.codec.predict_requests import mutated, request

MAX_BYTES = 1000
REFUSED = "Failed to parse the request as tensorflow.serving.PredictRequest: "


def eager_decoder() -> PredictDecoder:
    """One that scans every body of a layout it does not know."""
    decoder = PredictDecoder(MAX_BYTES)
    decoder.LARGE_BYTES = 0
    return decoder


def bits(array: np.ndarray) -> tuple[object, ...]:
    """What makes an array what it is. All NaNs count as one: protobuf makes a signaling one quiet on its way."""
    if array.dtype.kind in "fc":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return array.dtype, array.shape, array.tolist() if array.dtype.hasobject else array.tobytes()


def mapped(decoder: PredictDecoder, body: bytes | memoryview) -> object:
    try:
        call = decoder.decode(body)
    except ServingError as error:
        return error.code, error.message
    inputs = {}
    for alias in call.inputs:
        try:
            inputs[alias] = bits(call.inputs[alias])
        except ServingError as error:
            inputs[alias] = (error.code, error.message)
    return call.model_spec, inputs, len(call.inputs), list(call.output_filter)


def parsed(body: bytes) -> object:
    """The same by protobuf."""
    try:
        message = protos.PredictRequest.FromString(body)
    except DecodeError as error:
        return 13, f"{REFUSED}{error}"
    spec = model_spec.decode(message.model_spec) if message.HasField("model_spec") else None
    inputs: dict[str, tuple[object, ...]] = {}
    for alias, tensor in message.inputs.items():
        try:
            inputs[alias] = bits(decode(tensor, max_bytes=MAX_BYTES))
        except ValueError:
            inputs[alias] = (3, f"tensor parsing error: {alias}")
    return spec, inputs, len(message.inputs), list(message.output_filter)


def check(random: Random, decoder: PredictDecoder) -> bool:
    """One message, and others made of it, read both ways. True when the first one could be mapped."""
    body = request(random)
    for wire in (body, mutated(random, body), mutated(random, body), body):
        expected = parsed(wire)
        assert mapped(decoder, wire) == expected, wire
        assert mapped(decoder, memoryview(wire)) == expected, wire
    return scan(body, MAX_BYTES) is not None


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_reads_what_protobuf_reads(random: Random) -> None:
    check(random, eager_decoder())


def test_reads_what_protobuf_reads_with_layouts_kept() -> None:
    decoder, random = eager_decoder(), Random(1)
    num_mapped = sum(check(random, decoder) for _ in range(1_500))
    assert num_mapped > 500


@pytest.mark.slow
def test_reads_what_protobuf_reads_for_long() -> None:
    decoder, random = eager_decoder(), Random(2)
    num_mapped = sum(check(random, decoder) for _ in range(20_000))
    assert num_mapped > 7_000


def main(seconds: float, seed: int) -> None:
    end = time.monotonic() + seconds
    decoder, random = eager_decoder(), Random(seed)
    rounds = num_mapped = 0
    while time.monotonic() < end:
        for _ in range(1_000):
            num_mapped += check(random, decoder)
        rounds += 1_000
    print(f"{rounds * 8} messages read both ways in {seconds:.0f} s; {num_mapped / rounds:.0%} of the unharmed mapped")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
