import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving.codec.json.document import Object, parse
from pyserving.errors import InvalidArgument

EMPTY = "The document is empty."
VALUE = "Invalid value."
NAME = "Missing a name for object member."
COLON = "Missing a colon after a name of object member."
BRACE = "Missing a comma or '}' after an object member."
BRACKET = "Missing a comma or ']' after an array element."
HEX = "Incorrect hex digit after \\u escape in string."
SURROGATE = "The surrogate pair in string is invalid."
ESCAPE = "Invalid escape character in string."
QUOTE = "Missing a closing quotation mark in string."
TOO_BIG = "Number too big to be stored in double."
FRACTION = "Miss fraction part in number."
EXPONENT = "Miss exponent in number."


def plain(value):
    """Values as Python's own, objects as lists of pairs."""
    if isinstance(value, Object):
        return [(name, plain(member)) for name, member in value.members]
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("text", "reason", "offset"),
    [
        (b"   ", EMPTY, 3),
        (b"\0{}", EMPTY, 0),
        (b"]", EMPTY, 0),
        (b",", EMPTY, 0),
        (b"x", VALUE, 0),
        (b'{"instances": [1.0]', BRACE, 19),
        (b'{"instances": [1.0,]}', VALUE, 19),
        (b'{"a":nan}', VALUE, 6),
        (b'{"a":tru}', VALUE, 8),
        (b'{"a":fals', VALUE, 9),
        (b'{"a":Nan}', VALUE, 7),
        (b'{"a":Infi}', VALUE, 9),
        (b'{"a":+1}', VALUE, 5),
        (b'{"a":.5}', VALUE, 5),
        (b'{"a":-}', VALUE, 6),
        (b'{"a":}', VALUE, 5),
        (b'{"a":', VALUE, 5),
        (b"[1,,2]", VALUE, 3),
        (b"[,1]", VALUE, 1),
        (b"[1}", BRACKET, 2),
        (b"[01]", BRACKET, 2),
        (b"[1 2]", BRACKET, 3),
        (b"[[1]", BRACKET, 4),
        (b"{1:2}", NAME, 1),
        (b'{"a":1,}', NAME, 7),
        (b"{", NAME, 1),
        (b'{"a" 1}', COLON, 5),
        (b'{"a"', COLON, 4),
        (b'{"a":1 "b":2}', BRACE, 7),
        (b'{"a":1]', BRACE, 6),
        (b'{"a":1.}', FRACTION, 7),
        (b'{"a":1.e5}', FRACTION, 7),
        (b'{"a":1e}', EXPONENT, 7),
        (b'{"a":1.5e+}', EXPONENT, 10),
        (b'{"a":1e999}', TOO_BIG, 5),
        (b'{"a":-1e309}', TOO_BIG, 5),
        (b"[" + b"9" * 400 + b"]", TOO_BIG, 1),
        (b"[1, 2, 1e999, 3]", TOO_BIG, 7),
        (b"[1, 2, 3, ]", VALUE, 10),
        (b"[1, 2, 3.]", FRACTION, 9),
        (b"[1, 2, 03]", BRACKET, 8),
        (b'["a\\x"]', ESCAPE, 3),
        (b'["a\n"]', ESCAPE, 3),
        (b'["a\\', ESCAPE, 3),
        (b'["a\\u12g4"]', HEX, 3),
        (b'["a\\ud83d"]', SURROGATE, 3),
        (b'["a\\ud83d\\u0041"]', SURROGATE, 3),
        (b'["a\\ud83d\\uzzzz"]', HEX, 3),
        (b'["abc', QUOTE, 5),
        (b'["abc\0"]', QUOTE, 5),
        (b"\xef\xbb\xbf[x]", VALUE, 4),
    ],
)
def test_refusals_tell_reason_and_place(text, reason, offset):
    with pytest.raises(InvalidArgument) as refusal:
        parse(text)
    assert str(refusal.value) == f"JSON Parse error: {reason} at offset: {offset}"


def test_nothing_at_all_has_its_own_sentence():
    with pytest.raises(InvalidArgument, match=r"^JSON Parse error: The document is empty$"):
        parse(b"")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"\xef\xbb\xbf \t\r\n[]", []),
        (b'{"instances":[1]}garbage', [(b"instances", [1])]),
        (b"[1]\0,]", [1]),
        (b'{"a":1,"a":2}', [(b"a", 1), (b"a", 2)]),
        (b"[null,true,false]", [None, True, False]),
        (b'["\xff\xfe","\\u0000","\\/\\b\\f\\n\\r\\t\\"\\\\"]', [b"\xff\xfe", b"\0", b'/\b\f\n\r\t"\\']),
        (b'["\\u00e9\\ud83d\\ude00","\\udc00"]', ["é😀".encode(), b"\xed\xb0\x80"]),
        (b"[Inf,-Infinity,Infinity]", [math.inf, -math.inf, math.inf]),
        (b"[1e-999,0e999]", [0.0, 0.0]),
        (b"[1 ,\n2.5,-0, 1e2 , null]", [1, 2.5, 0, 100.0, None]),
        (b"[" + b"7," * 2500 + b"8]", [7] * 2500 + [8]),
    ],
)
def test_texts_become_values(text, value):
    assert plain(parse(text)) == value


@pytest.mark.parametrize("text", [b"NaN", b"-NaN"])
def test_nan_is_a_number(text):
    assert math.isnan(parse(text))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"-0", int),
        (b"-0.0", float),
        (b"1.0", float),
        (b"1e2", float),
        (b"18446744073709551615", int),
        (b"18446744073709551616", float),
        (b"-9223372036854775808", int),
        (b"-9223372036854775809", float),
    ],
)
def test_integers_are_those_of_64_bits(text, kind):
    assert type(parse(text)) is kind


def test_minus_zero_keeps_its_sign_as_a_double_only():
    assert math.copysign(1, parse(b"-0.0")) == -1
    assert parse(b"-0") == 0


@settings(deadline=None)
@given(st.integers(0, (1 << 64) - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]))
def test_doubles_are_read_exactly(number):
    if math.isfinite(number):
        assert struct.pack("<d", parse(repr(number).encode())) == struct.pack("<d", number)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text().map(lambda text: text.encode()),
    lambda inner: st.lists(inner) | st.lists(st.tuples(st.text().map(str.encode), inner), min_size=1),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON, st.sampled_from(["", " ", "\n\t\r "]))
def test_any_value_is_read_as_it_was_written(value, space):
    assert plain(parse(written(value, space).encode())) == value


def written(value, space):
    if isinstance(value, bytes):
        return f'"{"".join(map(escaped, value.decode()))}"'
    if isinstance(value, list):
        comma = f"{space},{space}"
        if value and all(isinstance(item, tuple) for item in value):
            members = comma.join(f"{written(name, space)}{space}:{space}{written(item, space)}" for name, item in value)
            return f"{{{space}{members}{space}}}"
        return f"[{space}{comma.join(written(item, space) for item in value)}{space}]"
    return "null" if value is None else str(value).lower()


def escaped(char):
    return f"\\u{ord(char):04x}" if char < " " or char in '"\\' else char


@pytest.mark.slow
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_takes_no_stack(opening, closing):
    value = parse(b'{"deep": ' + opening * 500_000 + b"1" + closing * 500_000 + b', "instances": [1]}')
    assert value.first(b"instances") == [[1]]


def test_more_values_than_memory_allows_are_refused():
    with pytest.raises(InvalidArgument, match=r"1001 values take more than 1000 bytes"):
        parse(b"[" + b"[]," * 499 + b"[]]", max_bytes=1000)


def test_bytearrays_are_read_too():
    assert parse(bytearray(b"[1]")) == [1]
