"""A sample request as the REST API takes it, in a form that programs can hold as a literal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pyserving.codec.json.tensor import INTEGER_RANGES, REAL_TYPES
from pyserving.commands.programs.template import Addresses
from pyserving.commands.sample import SampleRequest, SampleTensor
from pyserving.errors import Unimplemented
from pyserving.signature import DataType

_JSON_TYPES = frozenset([*REAL_TYPES, *INTEGER_RANGES, DataType.DT_BOOL, DataType.DT_STRING])


@dataclass(frozen=True, slots=True)
class Body:
    """JSON in several lines, for languages that take it as text."""

    text: str
    """Has `%s` for each of `filled`, and no other percent sign, no apostrophe and no backquote."""
    filled: Sequence[SampleTensor]
    """Tensors that are too large to be written out."""


def url(request: SampleRequest, addresses: Addresses) -> str:
    """ASCII, without quotes of any kind."""
    return f"http://{addresses.rest}/v1/models/{quote(request.model, safe='')}:{request.method.lower()}"


def tensors(request: SampleRequest) -> Mapping[str, SampleTensor]:
    """As REST has them: features of Examples are flat. Unimplemented for types that JSON has no values for."""
    for alias, tensor in request.tensors.items():
        if tensor.data_type not in _JSON_TYPES:
            name = tensor.data_type.type_name
            raise Unimplemented(f"{alias} is {name}, which the REST API does not take; python-grpc and js send it")
    if request.method == "Predict":
        return request.tensors
    return {name: SampleTensor(tensor.data_type, (tensor.size,)) for name, tensor in request.tensors.items()}


def body(request: SampleRequest) -> Body:
    """Of the POST."""
    fields, filled = [], []
    for name, tensor in tensors(request).items():
        if tensor.is_shown:
            fields.append(f"    {json_text(name)}: {json_text(tensor.values())}")
        else:
            fields.append(f"    {json_text(name)}: %s")
            filled.append(tensor)
    opening, closing = ('"inputs": {', "}") if request.method == "Predict" else ('"examples": [{', "}]")
    lines = ["{", f'  "signature_name": {json_text(request.signature_name)},', f"  {opening}", ",\n".join(fields)]
    return Body("\n".join([*filter(None, lines), f"  {closing}", "}"]), filled)


def json_text(value: Any) -> str:
    """JSON in which the characters are escaped that languages mean something by."""
    text = json.dumps(value)
    for character in "%'`":
        text = text.replace(character, f"\\u{ord(character):04x}")  # they stand within strings alone
    return text


def element_text(tensor: SampleTensor) -> str:
    """What it is filled with."""
    return json_text(tensor.element)
