from __future__ import annotations

import random

import pytest

from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.reader import Phase, RequestReader


@pytest.fixture
def reader():
    return RequestReader(Limits(max_head_bytes=1000, max_body_bytes=100))


def fed(reader, data):
    """What came with these bytes."""
    reader.feed(data)
    arrivals = list(reader.arrivals)
    reader.arrivals.clear()
    return arrivals


def summary(arrivals):
    return [a.refusal or (a.head.method, a.head.path, bytes(a.body)) for a in arrivals]


POST = b"POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
GET = b"GET /g?q=1 HTTP/1.1\r\nX-Name:  A\r\nX-Name: B\r\n\r\n"


def test_it_reads_method_path_query_headers_and_body(reader):
    (arrival,) = fed(reader, GET)
    assert arrival.head.method == "GET"
    assert arrival.head.path == "/g"
    assert arrival.head.tail == "?q=1"
    assert arrival.head.headers == {"x-name": "A, B"}
    assert arrival.body == b""
    assert arrival.head.keep_alive
    assert summary(fed(reader, POST)) == [("POST", "/p", b"body")]


def test_it_reads_chunked_bodies_and_drops_trailers(reader):
    (arrival,) = fed(reader, CHUNKED)
    assert arrival.body == b"abcde"
    assert "trailer" not in arrival.head.headers


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_it_does_not_mind_how_the_bytes_are_cut(reader, size):
    stream = POST + CHUNKED + GET
    arrivals = [a for at in range(0, len(stream), size) for a in fed(reader, stream[at : at + size])]
    assert summary(arrivals) == [("POST", "/p", b"body"), ("POST", "/c", b"abcde"), ("GET", "/g", b"")]


def test_it_knows_what_the_last_byte_belongs_to(reader):
    phases = [reader.phase]
    for piece in (b"PO", b"ST /p HTTP/1.1\r\nContent-Le", b"ngth: 4\r\n\r\nbo", b"dy"):
        fed(reader, piece)
        phases.append(reader.phase)
    assert phases == [Phase.BETWEEN, Phase.HEAD, Phase.HEAD, Phase.BODY, Phase.BETWEEN]


@pytest.mark.parametrize(
    ("request_bytes", "keep_alive", "version"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True, "1.1"),
        (b"GET / HTTP/1.1\r\nConnection: CLOSE\r\n\r\n", False, "1.1"),
        (b"GET / HTTP/1.0\r\n\r\n", False, "1.0"),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True, "1.0"),
        (b"GET http://host/x HTTP/1.1\r\n\r\n", False, "1.1"),
    ],
)
def test_it_knows_when_the_connection_goes_on(reader, request_bytes, keep_alive, version):
    (arrival,) = fed(reader, request_bytes)
    assert (arrival.head.keep_alive, arrival.head.version) == (keep_alive, version)
    assert reader.over is not keep_alive


def test_it_ignores_what_follows_the_last_request(reader):
    assert summary(fed(reader, b"GET /1 HTTP/1.1\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")) == [
        ("GET", "/1", b"")
    ]
    assert fed(reader, GET) == []


def test_it_goes_on_when_another_protocol_is_offered(reader):
    upgrade = b"GET /1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert summary(fed(reader, upgrade + GET)) == [("GET", "/1", b""), ("GET", "/g", b"")]
    assert summary(fed(reader, POST)) == [("POST", "/p", b"body")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_it_reads_the_body_of_who_asks_for_another_protocol(reader, size):
    upgrade = b"POST /1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody"
    sent = upgrade + GET + upgrade
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    arrivals = [arrival for piece in pieces for arrival in fed(reader, piece)]
    assert summary(arrivals) == [("POST", "/1", b"body"), ("GET", "/g", b""), ("POST", "/1", b"body")]


def test_it_refuses_chunks_from_who_asks_for_another_protocol(reader):
    upgrade = b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    (arrival,) = fed(reader, upgrade + b"1\r\na\r\n0\r\n\r\n")
    assert arrival.refusal == 501


@pytest.mark.proves("difference: Sizes and idleness over HTTP")
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /{x} HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"TRACE / HTTP/1.1\r\n\r\n", 501),
        (b"CONNECT host:1 HTTP/1.1\r\n\r\n", 501),
        (b"get / HTTP/1.1\r\n\r\n", 501),
        (b"BREW / HTTP/1.1\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nExpect: miracles\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + bytes(101), 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 1000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 1000, 431),
        (b"\r\n" * 501, 431),
    ],
)
def test_it_refuses(reader, request_bytes, status):
    assert summary(fed(reader, request_bytes)) == [status]
    assert reader.over
    assert fed(reader, GET) == []


def test_it_refuses_after_the_requests_that_were_in_order(reader):
    assert summary(fed(reader, GET + POST + b"rubbish\r\n\r\n")) == [("GET", "/g", b""), ("POST", "/p", b"body"), 400]


@pytest.mark.proves("difference: Sizes and idleness over HTTP")
@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", CHUNKED[:-10]])
def test_it_never_keeps_more_than_its_limits(reader, start):
    size = 0
    arrivals = fed(reader, start)
    while not arrivals:
        arrivals = fed(reader, b"x" * 50)
        size += 50
    assert summary(arrivals) == [431]
    assert size <= 1050


def test_it_notices_a_client_that_waits_for_100_continue(reader):
    head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    fed(reader, head)
    assert reader.expects_continue
    fed(reader, b"a")
    assert not reader.expects_continue
    fed(reader, b"b" + head + b"ab")
    assert not reader.expects_continue


def test_it_outlives_any_bytes():
    rng = random.Random(7)
    seeds = [GET, POST, CHUNKED]
    refusals = 0
    for _ in range(2000):
        reader = RequestReader(Limits(max_head_bytes=1000, max_body_bytes=100))
        data = bytearray(rng.choice(seeds) * 2)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        arrivals = fed(reader, bytes(data))
        refusals += sum(a.refusal != 0 for a in arrivals)
        assert all(not a.refusal or 400 <= a.refusal <= 501 for a in arrivals)
    assert refusals > 100
