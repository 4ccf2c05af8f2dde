"""Ask a server's model, and print its outputs as JSON, one to a line.

INPUTS is a JSON object of inputs by alias, `{"x": [[1.0, 2.0]]}`, `@FILE` for one in a file, or `-` for one that comes
by standard input. Lists become tensors of the types that the signature wants.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyserving.commands import connection
from pyserving.commands.arguments import version_number
from pyserving.errors import InvalidArgument

EXAMPLES = [
    """pyserving predict my_model '{"x": [[1.0, 2.0]]}'""",
    "pyserving predict my_model @inputs.json --signature scores --target host:8500",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="its name")
    parser.add_argument("inputs", metavar="INPUTS", help="JSON, @FILE, or - for standard input")
    version = parser.add_mutually_exclusive_group()
    version.add_argument("--version", type=version_number, help="a version's number")
    version.add_argument("--label", help="a version's label")
    parser.add_argument("--signature", default="", help="default: serving_default")
    parser.add_argument("--output", action="append", default=[], help="only this output; repeatable")
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    inputs = inputs_of(arguments.inputs)
    with connection.client(arguments) as client:
        outputs = client.predict(
            arguments.model,
            inputs,
            version=arguments.version,
            label=arguments.label,
            signature=arguments.signature,
            outputs=arguments.output,
        )
    lines = [f"  {json.dumps(alias)}: {json.dumps(_plain(array.tolist()))}" for alias, array in sorted(outputs.items())]
    print("\n".join(["{", ",\n".join(lines), "}"]))
    return 0


def inputs_of(word: str) -> Mapping[str, Any]:
    """What INPUTS stands for, with bytes for base64. Raises as `json_of` does."""
    return {alias: _with_bytes(value) for alias, value in json_of(word).items()}


def json_of(word: str) -> Mapping[str, Any]:
    """The JSON object that INPUTS stands for. InvalidArgument for anything else, OSError for no such file."""
    text: str | bytes
    if word == "-":
        text = sys.stdin.buffer.read()
    elif word.startswith("@"):
        text = Path(word[1:]).read_bytes()
    else:
        text = word
    try:
        inputs = json.loads(text)
    except ValueError as error:  # that bytes are no UTF-8 is one, too
        raise InvalidArgument(f"INPUTS is no JSON: {error}") from None
    if not isinstance(inputs, dict):
        raise InvalidArgument("INPUTS must be a JSON object of inputs by alias")
    return inputs


def _with_bytes(value: Any) -> Any:
    """`{"b64": "..."}` stands for bytes, as in TensorFlow Serving's JSON."""
    if isinstance(value, list):
        return [_with_bytes(entry) for entry in value]
    if isinstance(value, dict):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (KeyError, ValueError):
            raise InvalidArgument('an object among the inputs must be {"b64": "..."}') from None
    return value


def _plain(value: Any) -> Any:
    """What JSON has: bytes as text, or in base64 where they are none."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, complex):
        return [value.real, value.imag]
    return value.item() if isinstance(value, np.generic) else value
