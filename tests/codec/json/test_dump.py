import pytest

from pyserving.codec.json.document import parse
from pyserving.codec.json.dump import dump


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "[]"),
        ("{}", "{}"),
        ('[1,"a",null,true,false,[2]]', '[1, "a", null, true, false, [2]]'),
        ('{"a":1,"b":{}}', '{\n    "a": 1,\n    "b": {}\n}'),
        ('[{"a":[{"b":1}]}]', '[{\n        "a": [{\n                "b": 1\n            }]\n    }]'),
        ('"\\u0001\\"\\\\\\n/\x7f"', '"\\u0001\\"\\\\\\n/\x7f"'),
        (
            "[1.0,0.1,1e21,1e-7,1e-6,123456.5,1.5e30,-0.0,-2.5,1e20]",
            "[1.0, 0.1, 1e21, 1e-7, 0.000001, 123456.5, 1.5e30, -0.0, -2.5, 100000000000000000000.0]",
        ),
        ("[18446744073709551615,18446744073709551616]", "[18446744073709551615, 18446744073709553000.0]"),
        ("[1,NaN,2]", "[1, "),
        ('{"a":Infinity}', '{\n    "a": '),
    ],
)
def test_values_print_as_rapidjson_does(text, expected):
    assert dump(parse(text.encode())) == expected


def test_long_values_are_cut_behind_a_token():
    whole = str(list(range(1000)))
    text = dump(parse(whole.encode()))
    assert 256 <= len(text) < 256 + len(", 99")
    assert whole.startswith(text + ", ")


def test_a_long_string_is_not_cut_but_the_last():
    assert dump(parse(b'["%b",1]' % (b"x" * 1000))) == '["' + "x" * 1000 + '"'


def test_bytes_that_are_no_utf8_survive():
    assert dump(parse(b'["\xff"]')).encode("utf-8", "surrogateescape") == b'["\xff"]'


def test_depth_takes_no_stack():
    assert dump(parse(b"[" * 100_000 + b"]" * 100_000)) == "[" * 256
