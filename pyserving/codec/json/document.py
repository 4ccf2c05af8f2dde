"""A JSON text as values, by RapidJSON's rules as TensorFlow Serving has them.

It knows NaN and infinities, keeps strings as bytes, keeps every member of an object in its place, and stops after the
first value. Nesting takes memory but no stack.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias, Union

from pyserving.codec.tensor_proto import DEFAULT_MAX_BYTES
from pyserving.errors import InvalidArgument


@dataclass(slots=True, eq=False)
class Object:
    """A JSON object."""

    members: list[tuple[bytes, Value]] = field(default_factory=list)
    """In document order, duplicates included."""

    def first(self, key: bytes) -> list[Value]:
        """The value of the first member of this name, alone in a list; nothing in it when there is none."""
        for name, value in self.members:
            if name == key:
                return [value]
        return []


Value: TypeAlias = Union[bool, int, float, bytes, list["Value"], Object, None]  # noqa: UP007  (it names itself)
"""An integer is one that 64 bits can hold, signed or not; whatever else is a number is a float."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BYTES_PER_VALUE = 64
_MIN_INT64, _MAX_UINT64 = -(1 << 63), (1 << 64) - 1
_MAX_INTEGER = 1e20
_REAL_SIGNS = frozenset(b".eE")

_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN_STRING = re.compile(rb'"([^"\\\x00-\x1f]*)"')
_STRING_RUN = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBERS = re.compile(rb"(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?[ \t\r\n]*,[ \t\r\n]*){2,1000}")
"""So many, each with its comma, are taken at once; more would take the memory of an expression that may go back."""
_EXPONENT_SIGN = re.compile(rb"[eE][+-]?")
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")

_LITERALS: dict[int, tuple[bytes, Value]] = {
    ord("n"): (b"null", None),
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
}
_UNESCAPED = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
_END = -1
_QUOTE, _COLON, _COMMA, _BACKSLASH = b'":,\\'
_BRACKET, _CLOSING_BRACKET, _BRACE, _CLOSING_BRACE = b"[]{}"
_NUMBER_STARTS = frozenset(b"-0123456789")
_NO_VALUE = frozenset([_END, _COLON, _COMMA, _CLOSING_BRACKET, _CLOSING_BRACE])

_Step: TypeAlias = Callable[[], Union["_Step", None]]


def parse(body: bytes | bytearray, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Value:
    """The first value of the text.

    InvalidArgument with RapidJSON's reason and offset, and when the values would take some `max_bytes` of memory.
    """
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    text = bytes(body)
    if (end := text.find(b"\0")) >= 0:
        text = text[:end]
    _check_size(text, max_bytes)
    return _Reader(text).read()


def _check_size(text: bytes, max_bytes: int) -> None:
    at_most = text.count(b",") + text.count(b"[") + text.count(b"{") + 1
    if at_most * _BYTES_PER_VALUE > max_bytes:
        raise InvalidArgument(f"JSON Parse error: {at_most} values take more than {max_bytes} bytes")


def _refuse(reason: str, offset: int) -> NoReturn:
    raise InvalidArgument(f"JSON Parse error: {reason} at offset: {offset}")


def _number_of(token: bytes) -> int | float:
    """Of a well-formed token, maybe with white space around; infinite when it is too big."""
    number = float(token)
    if abs(number) < _MAX_INTEGER and not _REAL_SIGNS.intersection(token):
        integer = int(token)
        if _MIN_INT64 <= integer <= _MAX_UINT64:
            return integer
    return number


class _Reader:
    """Reads one text from start to end. A step reads what must come next and says which step is next."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
        self._root: list[Value] = []
        self._open: list[list[Value] | Object] = [self._root]
        self._name = b""
        """Of the member whose value comes next, in an object."""

    def read(self) -> Value:
        step: _Step | None = self._root_value
        while step is not None:
            step = step()
        return self._root[0]

    def _next(self) -> int:
        """The next character that is no white space, which stays where it is; _END at the end."""
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches anything
        return self._text[self._at] if self._at < len(self._text) else _END

    def _root_value(self) -> _Step | None:
        if self._next() in _NO_VALUE:
            _refuse("The document is empty.", self._at)
        return self._value()

    def _value(self) -> _Step | None:
        char = self._next()
        if char == _BRACKET:
            self._enter([])
            return self._first_element
        if char == _BRACE:
            self._enter(Object())
            return self._first_name
        if char in _NO_VALUE:
            _refuse("Invalid value.", self._at)
        if char in _NUMBER_STARTS and self._many_numbers():
            return self._value
        self._put(self._scalar(char))
        return self._after_value()

    def _many_numbers(self) -> bool:
        """Move past a row of array elements and the comma behind them, if there is one that is plain."""
        container = self._open[-1]
        if isinstance(container, Object) or container is self._root:
            return False
        found = _NUMBERS.match(self._text, self._at)
        if found is None:
            return False
        numbers = [_number_of(token) for token in found[0].split(b",")[:-1]]
        if not all(map(math.isfinite, numbers)):
            return False  # the place of the one that is too big is still to be told
        container.extend(numbers)
        self._at = found.end()
        return True

    def _enter(self, container: list[Value] | Object) -> None:
        self._put(container)
        self._open.append(container)
        self._at += 1

    def _put(self, value: Value) -> None:
        container = self._open[-1]
        if isinstance(container, Object):
            container.members.append((self._name, value))
        else:
            container.append(value)

    def _after_value(self) -> _Step | None:
        container = self._open[-1]
        if isinstance(container, Object):
            return self._comma_or_brace
        return None if container is self._root else self._comma_or_bracket

    def _leave(self) -> _Step | None:
        self._at += 1
        self._open.pop()
        return self._after_value()

    def _first_element(self) -> _Step | None:
        return self._leave() if self._next() == _CLOSING_BRACKET else self._value()

    def _comma_or_bracket(self) -> _Step | None:
        char = self._next()
        if char == _COMMA:
            self._at += 1
            return self._value
        if char == _CLOSING_BRACKET:
            return self._leave()
        _refuse("Missing a comma or ']' after an array element.", self._at)

    def _first_name(self) -> _Step | None:
        return self._leave() if self._next() == _CLOSING_BRACE else self._member_name()

    def _member_name(self) -> _Step | None:
        if self._next() != _QUOTE:
            _refuse("Missing a name for object member.", self._at)
        self._name = self._string()
        if self._next() != _COLON:
            _refuse("Missing a colon after a name of object member.", self._at)
        self._at += 1
        return self._value

    def _comma_or_brace(self) -> _Step | None:
        char = self._next()
        if char == _COMMA:
            self._at += 1
            return self._member_name
        if char == _CLOSING_BRACE:
            return self._leave()
        _refuse("Missing a comma or '}' after an object member.", self._at)

    def _scalar(self, char: int) -> Value:
        if char == _QUOTE:
            return self._string()
        if literal := _LITERALS.get(char):
            self._take(literal[0])
            return literal[1]
        return self._number()

    def _take(self, word: bytes) -> None:
        """Move past the word; refuse at the first character that is another."""
        for expected in word:
            if self._text[self._at : self._at + 1] != bytes([expected]):
                _refuse("Invalid value.", self._at)
            self._at += 1

    def _number(self) -> int | float:
        start = self._at
        found = _NUMBER.match(self._text, start)
        if found is None:
            return self._non_finite()
        self._at = found.end()
        self._check_number_end(found)
        number = _number_of(found[0])
        if math.isinf(number):
            _refuse("Number too big to be stored in double.", start)
        return number

    def _check_number_end(self, found: re.Match[bytes]) -> None:
        follows = self._text[self._at : self._at + 1]
        if follows == b"." and found.lastindex is None:
            _refuse("Miss fraction part in number.", self._at + 1)
        if follows in (b"e", b"E") and found[2] is None:
            sign = _EXPONENT_SIGN.match(self._text, self._at)
            assert sign is not None  # the letter is there
            _refuse("Miss exponent in number.", sign.end())

    def _non_finite(self) -> float:
        """`NaN`, `Inf`, `Infinity`, each with an optional minus. Not every way to go wrong is a number of its own."""
        is_negative = self._text.startswith(b"-", self._at)
        self._at += is_negative
        if self._text.startswith(b"N", self._at):
            self._take(b"NaN")
            return math.nan
        self._take(b"Inf")
        if self._text.startswith(b"i", self._at):
            self._take(b"inity")
        return -math.inf if is_negative else math.inf

    def _string(self) -> bytes:
        plain = _PLAIN_STRING.match(self._text, self._at)
        if plain is None:
            return self._escaped_string()
        self._at = plain.end()
        return plain[1]

    def _escaped_string(self) -> bytes:
        text, parts = self._text, []
        self._at += 1
        while True:
            run = _STRING_RUN.match(text, self._at)
            assert run is not None  # it matches anything
            parts.append(run[0])
            self._at = run.end()
            if self._at == len(text):
                _refuse("Missing a closing quotation mark in string.", self._at)
            if text[self._at] == _QUOTE:
                self._at += 1
                return b"".join(parts)
            parts.append(self._escape())

    def _escape(self) -> bytes:
        """What an escape stands for. What comes is a backslash, or a control character, which must not come."""
        backslash = self._at
        escape = self._text[backslash : backslash + 2]
        if escape == b"\\u":
            return self._unicode_escape(backslash)
        if escape[0] != _BACKSLASH or escape[1:] not in _UNESCAPED:
            _refuse("Invalid escape character in string.", backslash)
        self._at += 2
        return _UNESCAPED[escape[1:]]

    def _unicode_escape(self, backslash: int) -> bytes:
        code = self._hex4(backslash)
        if 0xD800 <= code <= 0xDBFF:
            if not self._text.startswith(b"\\u", self._at):
                _refuse("The surrogate pair in string is invalid.", backslash)
            low = self._hex4(backslash)
            if not 0xDC00 <= low <= 0xDFFF:
                _refuse("The surrogate pair in string is invalid.", backslash)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code).encode("utf-8", "surrogatepass")  # a low surrogate alone is taken as it is

    def _hex4(self, backslash: int) -> int:
        """The four digits of the `\\uXXXX` that comes, which is moved past."""
        digits = _HEX4.match(self._text, self._at + 2)
        if digits is None:
            _refuse("Incorrect hex digit after \\u escape in string.", backslash)
        self._at = digits.end()
        return int(digits[0], 16)
