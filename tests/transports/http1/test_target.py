from __future__ import annotations

import pytest

from pyserving.transports.http1.target import Target, parse_target


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        (b"/", Target("/", "", False)),
        (b"/v1/models/m:predict", Target("/v1/models/m:predict", "", False)),
        (b"/v1/models/a%2Fb?x=1?y/z", Target("/v1/models/a%2Fb", "?x=1?y/z", False)),
        (b"/a#piece", Target("/a", "#piece", False)),
        (b"*", Target("*", "", False)),
        (b"http://host:8501/v1/models/m?q", Target("/v1/models/m", "?q", True)),
        (b"//v1/models/m", Target("/models/m", "", False)),
        (b"/a?", Target("/a", "?", False)),
        (b"/a?x#y?z", Target("/a", "?x#y?z", False)),
        (b"", Target("", "", False)),
    ],
)
def test_it_reads(raw, target):
    assert parse_target(raw) == target


@pytest.mark.parametrize("raw", [b"/[", b'/"', b"/{x}", b"/a b", b"/\xc3\xa9", b"/%zz", b"/%2", b"/a?{", b"/a\\b"])
def test_it_refuses_what_has_no_place_in_a_uri(raw):
    assert parse_target(raw) is None
