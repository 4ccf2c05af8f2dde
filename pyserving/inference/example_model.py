"""What Classify and Regress share: one Example input, checked output tensors, and the answer of one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from pyserving.errors import InvalidArgument
from pyserving.signature import DEFAULT_SIGNATURE_NAME, DataType, SignatureDef, data_type_of

INPUTS = "inputs"
"""The alias of the one input of a classify or regress signature."""

ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, slots=True)
class ExampleAnswer(Generic[ResponseT]):
    """A response proto and what the metrics want to know of its run."""

    response: ResponseT
    runtime_micros: float


def find_signature(signatures: Mapping[str, SignatureDef], name: str) -> tuple[str, SignatureDef]:
    """The signature asked for; an empty name asks for `serving_default`."""
    name = name or DEFAULT_SIGNATURE_NAME
    try:
        return name, signatures[name]
    except KeyError:
        raise InvalidArgument(f"No signature was found with the name: {name}") from None


def shape_text(array: np.ndarray) -> str:
    """As TensorShape::DebugString prints it: `[2,3]`."""
    return f"[{','.join(map(str, array.shape))}]"


def check_data_type(array: np.ndarray, expected: DataType, sentence: str) -> None:
    """Refuse an output of another type; `sentence` goes before the name of the type that came."""
    found = data_type_of(array)
    if found is not expected:
        raise InvalidArgument(f"{sentence}{found.name}")
