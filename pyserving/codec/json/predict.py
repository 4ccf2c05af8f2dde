"""JSON of `:predict`: a request as arrays by input name, outputs as the answer's bytes.

Numbers go from bytes to arrays through simdjson's buffers where that gives the same as the complete reader of `document`
and `tensor`, which takes all else; both ways raise the same sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

import numpy as np

from pyserving.codec.tensor_proto import DEFAULT_MAX_BYTES
from pyserving.messages import Buffer
from pyserving.signature import SignatureDef

Signatures: TypeAlias = Callable[[str], Mapping[str, SignatureDef]]
"""All signatures of the model that the URL names, or the ServingError that it cannot be had; given the signature name of
the body (`""` when it has none). Called once, after the body's own form is found right and before any tensor is read."""


class Format(Enum):
    """How a request groups its values; its answer does the same."""

    ROW = auto()
    """`instances` in, `predictions` out."""
    COLUMNAR = auto()
    """`inputs` in, `outputs` out."""


class NonFinite(Enum):
    """How NaN and infinities are written."""

    TOKEN = "token"
    """`NaN`, `Infinity`, `-Infinity`, bare: TensorFlow Serving's way, which is not JSON."""
    NULL = "null"
    STRING = "string"
    """The same words in quotes."""


@dataclass(frozen=True, slots=True)
class PredictBody:
    """A request's body, read."""

    signature_name: str
    """As it was written; empty asks for `serving_default`."""
    format: Format
    inputs: Mapping[str, np.ndarray]
    """By alias, each of its signature's dtype. Strings are object arrays of bytes."""


def decode_predict(body: Buffer, signatures: Signatures, *, max_bytes: int = DEFAULT_MAX_BYTES) -> PredictBody:
    """Read a request. InvalidArgument (Unimplemented for a dtype without JSON in columnar form) in TensorFlow Serving's sentences.

    `max_bytes` bounds what the arrays of the request take together.
    """
    raise NotImplementedError


def encode_predict(
    outputs: Mapping[str, np.ndarray], format: Format, *, nonfinite: NonFinite = NonFinite.TOKEN
) -> bytes:
    """The answer's body: byte for byte TensorFlow Serving's below 64 KB, without white space above.

    InvalidArgument where outputs have no JSON form, or no common first dimension in row form.
    """
    raise NotImplementedError
