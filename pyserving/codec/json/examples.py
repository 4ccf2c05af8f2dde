"""JSON of `:classify` and `:regress`: features as serialized tf.Examples, results as the answer's bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyserving import protos
from pyserving.codec.json.base64_object import decoded, is_base64_object
from pyserving.codec.json.document import Object, Value
from pyserving.codec.json.dump import dump
from pyserving.codec.json.number_text import NonFinite, float_text
from pyserving.codec.json.request import parse_object, read_signature_name
from pyserving.codec.json.tensor import kind_of
from pyserving.codec.json.text import as_message, quoted
from pyserving.codec.tensor_proto import DEFAULT_MAX_BYTES
from pyserving.errors import InvalidArgument
from pyserving.messages import Buffer

_INT64, _FLOAT, _BYTES = "int64", "float", "bytes"
"""Kinds of features, as sentences call them."""
_MIN_UINT64_BEYOND_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class ExamplesBody:
    """A request's body, read."""

    signature_name: str
    """As it was written; empty asks for `serving_default`."""
    input: protos.SerializedInput
    """What `inference.classify` and `inference.regress` take."""


def decode_examples(body: Buffer, *, max_bytes: int = DEFAULT_MAX_BYTES) -> ExamplesBody:
    """Read a classify or regress request, before any model is looked up.

    InvalidArgument in TensorFlow Serving's sentences. `max_bytes` bounds roughly what the values of the body may take.
    """
    document = parse_object(body, max_bytes)
    signature_name = read_signature_name(document)
    contexts = [_serialized_example(context) for context in document.first(b"context")]
    examples = [_serialized_example(example) for example in _examples(document)]
    input = protos.SerializedInput()
    if contexts:
        input.example_list_with_context.context = contexts[0]
        input.example_list_with_context.examples.extend(examples)
    else:
        input.example_list.examples.extend(examples)
    return ExamplesBody(signature_name, input)


def _examples(document: Object) -> list[Value]:
    found = document.first(b"examples")
    if not found:
        raise InvalidArgument(
            f"JSON Value: {dump(document)} When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(found[0], list):
        raise InvalidArgument(f"JSON Value: {dump(document)} Expecting 'examples' value to be an list/array")
    if not found[0]:
        raise InvalidArgument(f"JSON Value: {dump(document)} 'examples' value is an empty array")
    return found[0]


def _serialized_example(value: Value) -> bytes:
    if not isinstance(value, Object):
        raise InvalidArgument(f"Example must be JSON object but got JSON {kind_of(value)}")
    example = protos.Example()
    for key, content in value.members:
        name = as_message(key)
        feature = _feature(name, content if isinstance(content, list) else [content])
        example.features.feature[_proto_text(key)].CopyFrom(feature)
    return example.SerializeToString()


def _proto_text(key: bytes) -> str:
    """Names of features are proto3 strings; bytes that are no UTF-8 cannot stand in one."""
    return key.decode("utf-8", "replace")


def _feature(name: str, elements: list[Value]) -> protos.Feature:
    """The first element sets the kind; there is no feature without a name or of two kinds."""
    feature, kind = protos.Feature(), None
    values: list[Any] = []
    for element in elements:
        element_kind = _kind(name, element)
        kind = kind or element_kind
        if element_kind != kind:
            raise InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {kind}")
        values.append(_plain(name, element))
    if kind == _INT64:
        feature.int64_list.value.extend(values)
    elif kind == _FLOAT:
        with np.errstate(over="ignore"):
            feature.float_list.value.extend(np.array(values, np.float32).tolist())
    elif kind == _BYTES:
        feature.bytes_list.value.extend(values)
    return feature


def _kind(name: str, element: Value) -> str:
    if isinstance(element, (bool, int)):
        return _INT64
    if isinstance(element, float):
        return _FLOAT
    if isinstance(element, bytes) or is_base64_object(element):
        return _BYTES
    raise InvalidArgument(f"Feature: {name} has element with unexpected JSON type: {kind_of(element)}")


def _plain(name: str, element: Value) -> bytes | float | int:
    if is_base64_object(element):
        return decoded(element)
    assert isinstance(element, (bytes, float, int))  # by its kind
    if isinstance(element, bool):
        return int(element)
    if isinstance(element, int) and element >= _MIN_UINT64_BEYOND_INT64:
        raise InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    return element


def encode_classify(result: protos.ClassificationResult, *, nonfinite: NonFinite = NonFinite.TOKEN) -> bytes:
    """`{"results": [[[label, score], ...], ...]}`, the innermost lists on one line."""
    rows = [_classes(classifications.classes, nonfinite) for classifications in result.classifications]
    return b'{\n    "results": [%b\n    ]\n}' % b", ".join(rows)


def _classes(classes: Iterable[protos.Class], nonfinite: NonFinite) -> bytes:
    pairs = [b"[%b, %b]" % (quoted(found.label.encode()), float_text(found.score, nonfinite)) for found in classes]
    return b"[%b]" % b", ".join(pairs)


def encode_regress(result: protos.RegressionResult, *, nonfinite: NonFinite = NonFinite.TOKEN) -> bytes:
    """`{"results": [value, ...]}`, the list on one line."""
    values = [float_text(regression.value, nonfinite) for regression in result.regressions]
    return b'{\n    "results": [%b]\n}' % b", ".join(values)
