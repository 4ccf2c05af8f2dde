"""Requests to the HTTP port that must show a token."""

from __future__ import annotations

import asyncio
import http.client
from contextlib import asynccontextmanager

import pytest

from pyserving.frontends.http_status import error_response
from pyserving.messages import HttpResponse
from pyserving.transports.admission import Admission
from pyserving.transports.http1 import HttpServer
from pyserving.transports.tokens import Token, TokenCheck, asks_for_health, digest_of

SECONDS = 10.0


class Pages:
    def __init__(self):
        self.asked = []

    def __call__(self, request):
        self.asked.append((request.method, request.path))
        return HttpResponse(200, bytes(request.body))


@pytest.fixture
def pages():
    return Pages()


@pytest.fixture
def check():
    return TokenCheck((Token(digest_of("one")),), exempt=[asks_for_health])


@pytest.fixture
async def server(pages, check):
    async with HttpServer(
        [pages],
        "127.0.0.1",
        0,
        error_response=error_response,
        admission=Admission(100, 1 << 30),
        authenticate=check,
    ) as server:
        yield server


@asynccontextmanager
async def connected(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def everything(server, request):
    """All that the server sends until it closes."""
    async with connected(server) as (reader, writer):
        writer.write(request)
        return await asyncio.wait_for(reader.read(), SECONDS)


def request(line, *headers, body=b""):
    lines = [line + " HTTP/1.1", *headers, *([f"Content-Length: {len(body)}"] if body else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_one_with_a_token_is_answered_again_and_again_on_one_connection(server):
    def ask():
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        answers = []
        for headers in ({"Authorization": "Bearer one"}, {"X-Api-Key": "one"}) * 3:
            client.request("POST", "/echo", b"body", headers)
            answers.append(client.getresponse().read())
        client.close()
        return answers

    assert await asyncio.to_thread(ask) == [b"body"] * 6


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ((), b"A token is needed: authorization: Bearer TOKEN, or x-api-key: TOKEN"),
        (("Authorization: Bearer two",), b"The token is not known"),
        (("X-API-Key: two",), b"The token is not known"),
        (("Authorization: Bearer one", "Authorization: Bearer one"), b"The token is not known"),
    ],
)
async def test_one_without_is_told_what_is_missing_and_the_connection_ends(server, pages, headers, why):
    text = await everything(server, request("GET /v1/models/m", *headers) + request("GET /next"))
    head, _, body = text.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 401 Unauthorized"
    assert {b"WWW-Authenticate: Bearer", b"Content-Type: application/json", b"Connection: close"} <= {*lines}
    assert body == b'{\n    "error": "' + why + b'"\n}'
    assert pages.asked == []


@pytest.mark.parametrize(
    "head",
    [
        request("POST /echo", "Content-Length: 1000000"),
        request("POST /echo", "Transfer-Encoding: chunked"),
        request("POST /echo", "Content-Length: 10", "Expect: 100-continue"),
        request("GET /echo", "Connection: upgrade", "Upgrade: h2c"),
        b"GET /echo HTTP/1.0\r\n\r\n",
    ],
)
async def test_it_is_refused_before_its_body_comes(server, pages, head):
    text = await everything(server, head)
    assert text.split(b" ")[1] == b"401"
    assert b"100 Continue" not in text
    assert pages.asked == []


async def test_a_token_in_trailers_comes_too_late(server, pages):
    chunked = request("POST /echo", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\nX-API-Key: one\r\n\r\n"
    assert b" 401 " in await everything(server, chunked)
    assert pages.asked == []


async def test_health_is_exempt(server):
    text = await everything(server, request("GET /healthz", "Connection: close"))
    assert text.startswith(b"HTTP/1.1 200 OK")


async def test_a_known_head_is_judged_anew_when_tokens_change(server, pages, check):
    shown = request("POST /echo", "X-API-Key: one", body=b"ab")
    async with connected(server) as (reader, writer):
        for _ in range(3):
            writer.write(shown)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nab"), SECONDS)).startswith(b"HTTP/1.1 200")
        assert len(server.heads) == 1
        check.tokens = ()
        server.authenticate_anew()
        writer.write(shown)
        assert (await asyncio.wait_for(reader.read(), SECONDS)).startswith(b"HTTP/1.1 401")
    assert len(pages.asked) == 3
