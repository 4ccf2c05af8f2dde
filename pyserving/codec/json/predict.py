"""JSON of `:predict`: a request as arrays by input name, outputs as the answer's bytes.

Plain numbers go from bytes to arrays through `plain_numbers`; all else, and whatever is wrong, is read by the complete
reader of `document` and `instances`, which gives the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

import numpy as np

from pyserving.codec.json import plain_numbers
from pyserving.codec.json.answer import encode_columns, encode_rows
from pyserving.codec.json.document import Object
from pyserving.codec.json.dump import dump
from pyserving.codec.json.instances import read_columns, read_rows
from pyserving.codec.json.number_text import NonFinite
from pyserving.codec.json.request import parse_object, read_signature_name
from pyserving.codec.tensor_proto import DEFAULT_MAX_BYTES
from pyserving.errors import InvalidArgument
from pyserving.messages import Buffer
from pyserving.signature import DEFAULT_SIGNATURE_NAME, SignatureDef, TensorInfo

Signatures: TypeAlias = Callable[[str], Mapping[str, SignatureDef]]
"""All signatures of the model that the URL names, or the ServingError why it cannot be had. Given the signature name of
the body, `""` when it has none; called once, when the body is found to be JSON and before any tensor is read."""


__all__ = ["Format", "NonFinite", "PredictBody", "Signatures", "decode_plain", "decode_predict", "encode_predict"]


class Format(Enum):
    """How a request groups its values; its answer does the same."""

    ROW = auto()
    """`instances` in, `predictions` out."""
    COLUMNAR = auto()
    """`inputs` in, `outputs` out."""


@dataclass(frozen=True, slots=True)
class PredictBody:
    """A request's body, read."""

    signature_name: str
    """As it was written; empty asks for `serving_default`."""
    format: Format
    inputs: Mapping[str, np.ndarray]
    """By alias, each of its signature's dtype. Strings are object arrays of bytes."""


def decode_predict(body: Buffer, signatures: Signatures, *, max_bytes: int = DEFAULT_MAX_BYTES) -> PredictBody:
    """Read a request.

    InvalidArgument in TensorFlow Serving's sentences; Unimplemented, in columnar form, for a dtype that JSON has no
    values of. `max_bytes` bounds roughly what the values of the body may take.
    """
    text = bytes(body)
    plain = plain_numbers.read(text)
    if plain is None:
        return read_completely(text, signatures, max_bytes)
    infos = _input_infos(signatures(plain.signature_name), plain.signature_name)
    inputs = plain.inputs(infos)
    if inputs is None:
        return _read_values(parse_object(text, max_bytes), plain.signature_name, infos)
    return _plain_body(plain, inputs)


def decode_plain(body: Buffer, signatures: Signatures) -> PredictBody | None:
    """As `decode_predict`, of nothing but numbers and in little time; None for other bodies, be they right or wrong."""
    plain = plain_numbers.read(bytes(body))
    if plain is None:
        return None
    inputs = plain.inputs(_input_infos(signatures(plain.signature_name), plain.signature_name))
    return None if inputs is None else _plain_body(plain, inputs)


def _plain_body(plain: plain_numbers.PlainBody, inputs: Mapping[str, np.ndarray]) -> PredictBody:
    return PredictBody(plain.signature_name, Format.ROW if plain.is_rows else Format.COLUMNAR, inputs)


def read_completely(text: bytes, signatures: Signatures, max_bytes: int = DEFAULT_MAX_BYTES) -> PredictBody:
    """As `decode_predict`, value by value whatever the body is."""
    document = parse_object(text, max_bytes)
    signature_name = read_signature_name(document)
    return _read_values(document, signature_name, _input_infos(signatures(signature_name), signature_name))


def _input_infos(signatures: Mapping[str, SignatureDef], name: str) -> Mapping[str, TensorInfo]:
    asked = name or DEFAULT_SIGNATURE_NAME
    signature = signatures.get(asked)
    if signature is None:
        raise InvalidArgument(f'Serving signature name: "{asked}" not found in signature def')
    if not signature.inputs:
        raise InvalidArgument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    return signature.inputs


def _read_values(document: Object, signature_name: str, infos: Mapping[str, TensorInfo]) -> PredictBody:
    try:
        return _checked_values(document, signature_name, infos)
    except ValueError as error:
        raise InvalidArgument(f"tensor parsing error: {error}") from error


def _checked_values(document: Object, signature_name: str, infos: Mapping[str, TensorInfo]) -> PredictBody:
    instances, inputs = document.first(b"instances"), document.first(b"inputs")
    if instances and inputs:
        raise InvalidArgument(
            f"JSON Value: {dump(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if instances:
        rows = instances[0]
        if not isinstance(rows, list):
            raise InvalidArgument(f"JSON Value: {dump(document)} Expecting 'instances' to be an list/array")
        if not rows:
            raise InvalidArgument(f"JSON Value: {dump(document)} No values in 'instances' array")
        return PredictBody(signature_name, Format.ROW, read_rows(rows, infos))
    if inputs:
        return PredictBody(signature_name, Format.COLUMNAR, read_columns(inputs[0], infos))
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def encode_predict(
    outputs: Mapping[str, np.ndarray], format: Format, *, nonfinite: NonFinite = NonFinite.TOKEN
) -> bytes:
    """The answer's body: byte for byte TensorFlow Serving's below 64 KB, without white space above.

    InvalidArgument where outputs have no JSON form, or no common first dimension in row form.
    """
    if format is Format.ROW:
        return encode_rows(outputs, nonfinite)
    return encode_columns(outputs, nonfinite)
