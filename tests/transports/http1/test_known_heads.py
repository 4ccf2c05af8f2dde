from __future__ import annotations

import pytest

from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.reader import RequestReader
from pyserving.transports.http1.request_head import Heads, RequestHead

POST = b"POST /p HTTP/1.1\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def heads():
    return Heads()


def read(heads, *pieces):
    """The requests in the pieces, and the heads that are known after them."""
    reader = RequestReader(Limits(), heads)
    for piece in pieces:
        reader.feed(piece)
    return [(arrival.refusal or arrival.head.path, bytes(arrival.body)) for arrival in reader.arrivals]


def test_a_head_that_came_once_is_the_same_object_for_other_connections(heads):
    first, second = RequestReader(Limits(), heads), RequestReader(Limits(), heads)
    first.feed(POST + b"ab")
    second.feed(POST + b"cd")
    assert first.arrivals[0].head is second.arrivals[0].head
    assert [bytes(reader.arrivals[0].body) for reader in (first, second)] == [b"ab", b"cd"]


@pytest.mark.parametrize("size", [1, 2, 3, 40, 1000])
def test_known_heads_are_read_like_unknown_ones_however_they_are_cut(heads, size):
    get = b"GET /g HTTP/1.1\r\n\r\n"
    chunked = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    stream = (POST + b"ab" + get + chunked + POST + b"cd" + get) * 2
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    expected = [("/p", b"ab"), ("/g", b""), ("/c", b"x"), ("/p", b"cd"), ("/g", b"")] * 2
    assert read(heads, *pieces) == expected
    assert read(heads, *pieces) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /p HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
        b"GET /p HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /p HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /p HTTP/1.0\r\n\r\n",
        b"GET /p HTTP/1.1\r\nX: " + b"x" * 3000 + b"\r\n\r\n",
        b"GET /{} HTTP/1.1\r\n\r\n",
        b"\r\n\r\nGET /p HTTP/1.1\r\n\r\n",
    ],
)
def test_what_needs_a_second_look_is_read_anew(heads, text):
    assert read(heads, text) == read(heads, text)
    assert len(heads) == 0


def test_a_head_whose_end_is_in_doubt_is_not_kept(heads):
    text = b"POST /p HTTP/1.1\nContent-Length: 2\r\n\r\n"
    heads.keep(text, RequestHead("POST", "/p", keep_alive=True, content_length=2))
    assert len(heads) == 0


def test_there_is_an_end_to_what_is_kept(heads):
    for number in range(3000):
        read(heads, b"GET /%d HTTP/1.1\r\n\r\n" % number)
    assert 0 < len(heads) <= 1024
