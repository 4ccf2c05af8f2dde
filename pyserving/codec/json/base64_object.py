"""Base64 objects, `{"b64": "..."}`: bytes where a string may stand."""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import TypeGuard

from pyserving.codec.json.document import Object, Value
from pyserving.errors import InvalidArgument

_KEY = b"b64"
_WHITE_SPACE = b" \t\n\v\f\r"
_TEXT = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")


def is_base64_object(value: Value) -> TypeGuard[Object]:
    """One member, named `b64`, and it is a string."""
    if not isinstance(value, Object) or len(value.members) != 1:
        return False
    ((name, encoded),) = value.members
    return name == _KEY and isinstance(encoded, bytes)


def is_named_values(value: Value) -> TypeGuard[Object]:
    """Any other object: its members are inputs by name."""
    return isinstance(value, Object) and not is_base64_object(value)


def decoded(value: Object) -> bytes:
    """The bytes of a base64 object. InvalidArgument by absl's rules: padding, dots too, is whole or missing."""
    ((_, encoded),) = value.members
    assert isinstance(encoded, bytes)  # is_base64_object
    found = _TEXT.fullmatch(encoded.translate(None, _WHITE_SPACE))
    if found is None:
        raise InvalidArgument("Unable to base64 decode")
    text, padding = found.groups()
    missing = -len(text) % 4
    if missing == 3 or len(padding) not in (0, missing):
        raise InvalidArgument("Unable to base64 decode")
    return a2b_base64(text + b"=" * missing)
