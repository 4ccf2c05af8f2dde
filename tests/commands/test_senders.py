"""The HTTP connections by which a server is measured; those of gRPC are gRPC's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from pyserving.commands.load import OK, Answer
from pyserving.commands.senders import Request, RestSender

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers each request with what `answer` makes of it, and closes the connection behind an empty one."""

    def __init__(self) -> None:
        self.answer: Callable[[bytes], bytes] = lambda request: ANSWER
        self.requests: list[bytes] = []
        self.connections = 0
        self.conversations: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await reader.readuntil(b"}"):
            self.requests.append(head)
            answer = self.answer(head)
            writer.write(answer)
            if not answer:
                break


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def send(server: Server) -> AsyncIterator[RestSender]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.conversations.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):  # the client has left
            await server.serve(reader, writer)
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    requests = [Request("/v1/models/m:predict", b'{"a": 1}'), Request("/v1/models/m:predict", b'{"a": 2}')]
    async with RestSender(f"127.0.0.1:{port}", requests, None, {"x-token": "t"}, 0.2) as made:
        yield made
    await asyncio.gather(*filter(None, server.conversations))
    listening.close()
    await listening.wait_closed()


async def test_requests_go_out_in_turn_over_one_connection(server, send):
    assert [await send(number) for number in range(3)] == [Answer(OK)] * 3
    assert server.connections == 1
    assert [request[-2:] for request in server.requests] == [b"1}", b"2}", b"1}"]
    assert b"POST /v1/models/m:predict HTTP/1.1\r\n" in server.requests[0]
    assert b"x-token: t\r\n" in server.requests[0]


async def test_calls_at_a_time_have_a_connection_each(server, send):
    assert await asyncio.gather(*map(send, range(4))) == [Answer(OK)] * 4
    assert server.connections == 4


async def test_an_error_is_told_by_its_status_and_its_body(server, send):
    server.answer = lambda request: b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nno m"
    assert await send(0) == Answer("HTTP 404", "no m")


async def test_a_connection_that_the_server_closes_is_not_used_again(server, send):
    server.answer = lambda request: b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert [await send(0), await send(0)] == [Answer(OK)] * 2
    assert server.connections == 2


async def test_an_end_without_an_answer_is_a_failure(server, send):
    server.answer = lambda request: b""
    assert await send(0) == Answer("UNAVAILABLE", "the server closed the connection")


async def test_an_answer_that_does_not_come_is_a_failure_of_its_own(server, send):
    server.answer = lambda request: b"HTTP/1.1 200 OK\r\n"
    assert await send(0) == Answer("DEADLINE_EXCEEDED", "no answer within 0.2 s")


async def test_what_is_no_http_is_a_failure(server, send):
    server.answer = lambda request: b"rubbish\r\n\r\n"
    assert (await send(0)).status == "UNAVAILABLE"


async def test_nobody_there_is_a_failure():
    async with RestSender("127.0.0.1:1", [Request("/", b"{}")], None, {}, 5.0) as send:
        assert (await send(0)).status == "UNAVAILABLE"
