"""What all request bodies have in common: an object that may name a signature."""

from __future__ import annotations

from pyserving.codec.json.document import Object, parse
from pyserving.codec.json.dump import dump
from pyserving.codec.json.text import as_message
from pyserving.errors import InvalidArgument
from pyserving.messages import Buffer


def parse_object(body: Buffer, max_bytes: int) -> Object:
    """The body's root. InvalidArgument for what is no JSON, or no object."""
    document = parse(bytes(body), max_bytes=max_bytes)
    if not isinstance(document, Object):
        raise InvalidArgument(f"JSON Value: {dump(document)} Is not object")
    return document


def read_signature_name(document: Object) -> str:
    """Empty when none is given. InvalidArgument when it is no string."""
    for value in document.first(b"signature_name"):
        if not isinstance(value, bytes):
            raise InvalidArgument(
                f"JSON Value: {dump(document)} not formatted correctly. 'signature_name' key must be a string value."
            )
        return as_message(value)
    return ""
