"""JSON of `:classify` and `:regress`: features as serialized tf.Examples, results as the answer's bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pyserving import protos
from pyserving.messages import Buffer


@dataclass(frozen=True, slots=True)
class ExamplesBody:
    """A request's body, read."""

    signature_name: str
    """As it was written; empty asks for `serving_default`."""
    input: protos.SerializedInput
    """What `inference.classify` and `inference.regress` take."""


def decode_examples(body: Buffer) -> ExamplesBody:
    """Read a classify or regress request, before any model is looked up. InvalidArgument in TensorFlow Serving's sentences."""
    raise NotImplementedError


def encode_classify(result: protos.ClassificationResult) -> bytes:
    """`{"results": [[[label, score], ...], ...]}`."""
    raise NotImplementedError


def encode_regress(result: protos.RegressionResult) -> bytes:
    """`{"results": [value, ...]}`."""
    raise NotImplementedError
