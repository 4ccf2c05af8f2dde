"""The target of a request line, read as strictly as RFC 3986 has it."""

from __future__ import annotations

import re
from typing import NamedTuple

_CHARACTER = rb"[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2}"
_TARGET = re.compile(
    rb"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):(?=//))?"
    rb"(?://(?P<authority>(?:[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]]|%[0-9A-Fa-f]{2})*))?"
    rb"(?P<path>(?:" + _CHARACTER + rb")*)"
    rb"(?P<tail>(?:\?(?:\?|" + _CHARACTER + rb")*)?(?:#(?:\?|" + _CHARACTER + rb")*)?)"
)


class Target(NamedTuple):
    path: str
    tail: str
    """`?query#fragment`, as far as there are any."""
    is_absolute: bool
    """Written with its scheme, as to a proxy."""


def parse_target(raw: bytes) -> Target | None:
    """None when a character has no place in a URI. What follows `//` is an authority and no part of the path."""
    match = _TARGET.fullmatch(raw)
    if match is None:
        return None
    return Target(match["path"].decode(), match["tail"].decode(), match["scheme"] is not None)
