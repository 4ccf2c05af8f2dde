"""Model status and metadata as JSON, in the layout of protobuf's own JSON printing: every field, one space a level."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.types import ServableId, ServableState


def encode_model_status(states: Sequence[ServableState]) -> bytes:
    """The body of GET /v1/models/NAME. `states` stay in their order; the core gives the newest first."""
    response = protos.GetModelStatusResponse()
    for state in states:
        entry = response.model_version_status.add(version=state.id.version, state=int(state.manager_state))
        entry.status.SetInParent()
        if state.health is not None:
            entry.status.error_code = int(state.health.code)
            entry.status.error_message = state.health.message
    return _document(response).encode()


def encode_metadata(servable_id: ServableId, signature_def_map: bytes) -> bytes:
    """The body of GET .../metadata; `signature_def_map` is the serialized tensorflow.serving.SignatureDefMap."""
    spec = protos.ModelSpec()
    model_spec.encode_into(spec, servable_id)
    signatures = protos.SignatureDefMap.FromString(signature_def_map)
    # As get_model_metadata_impl.cc: two documents with text between them.
    text = f'{{\n"model_spec":{_document(spec)},\n"metadata": {{"signature_def": {_document(signatures)}}}\n}}\n'
    return text.encode()


def _document(message: Message) -> str:
    return _message(message, 0) + "\n"


def _message(message: Message, depth: int) -> str:
    fields: list[Any] = sorted(message.DESCRIPTOR.fields, key=lambda field: field.number)
    if message.DESCRIPTOR.full_name in _WRAPPERS:
        return _single(getattr(message, fields[0].name), fields[0], depth)
    members = []
    for field in fields:
        if not field.has_presence or message.HasField(field.name):
            members.append(f"{_quoted(field.name)}: {_field(getattr(message, field.name), field, depth + 1)}")
    return _block("{", members, "}", depth)


def _block(opening: str, items: Iterable[str], closing: str, depth: int) -> str:
    lines = ",".join(f"\n{' ' * (depth + 1)}{item}" for item in items)
    return f"{opening}{lines}\n{' ' * depth}{closing}" if lines else opening + closing


def _field(value: Any, field: Any, depth: int) -> str:
    if isinstance(value, Mapping):
        entry = field.message_type.fields_by_name["value"]
        members = [f"{_quoted(str(key))}: {_single(value[key], entry, depth + 1)}" for key in sorted(value)]
        return _block("{", members, "}", depth)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return _block("[", [_single(item, field, depth + 1) for item in value], "]", depth)
    return _single(value, field, depth)


def _single(value: Any, field: Any, depth: int) -> str:
    if field.message_type is not None:
        return _message(value, depth)
    return _SCALARS[field.cpp_type](value, field)


def _enum(value: int, field: Any) -> str:
    known = field.enum_type.values_by_number.get(value)
    return _quoted(known.name) if known else str(value)


def _string(value: str | bytes, field: Any) -> str:
    return _quoted(value if isinstance(value, str) else b64encode(value).decode())


def _bool(value: bool, field: Any) -> str:
    return "true" if value else "false"


def _integer(value: int, field: Any) -> str:
    return str(value)


def _wide_integer(value: int, field: Any) -> str:
    """JavaScript's numbers do not hold 64 bits."""
    return f'"{value}"'


def _float(value: float, field: Any) -> str:
    text = f"{value:.6g}"
    return _real(value, text if np.float32(text) == value else f"{value:.9g}")


def _double(value: float, field: Any) -> str:
    text = f"{value:.15g}"
    return _real(value, text if float(text) == value else f"{value:.17g}")


def _real(value: float, text: str) -> str:
    if math.isfinite(value):
        return text
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


_SCALARS: dict[int, Callable[[Any, Any], str]] = {
    FieldDescriptor.CPPTYPE_INT32: _integer,
    FieldDescriptor.CPPTYPE_INT64: _wide_integer,
    FieldDescriptor.CPPTYPE_UINT32: _integer,
    FieldDescriptor.CPPTYPE_UINT64: _wide_integer,
    FieldDescriptor.CPPTYPE_DOUBLE: _double,
    FieldDescriptor.CPPTYPE_FLOAT: _float,
    FieldDescriptor.CPPTYPE_BOOL: _bool,
    FieldDescriptor.CPPTYPE_ENUM: _enum,
    FieldDescriptor.CPPTYPE_STRING: _string,
}
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
"""Their one value stands for them."""

_SHORT_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_ESCAPED = re.compile(
    r'[\x00-\x1f"<>\\\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb]'
)
"""Angle brackets and invisible characters too, which protobuf escapes for browsers' sake."""


def _quoted(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(found: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}"
