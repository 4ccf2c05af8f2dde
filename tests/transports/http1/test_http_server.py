from __future__ import annotations

import asyncio
import http.client
import re
import socket
import struct
from contextlib import asynccontextmanager, suppress

import pytest

from pyserving.errors import FailedPrecondition, NotFound
from pyserving.frontends.http_status import error_response
from pyserving.messages import HttpResponse
from pyserving.transports.admission import Admission
from pyserving.transports.http1 import HttpServer, Limits

NOT_FOUND_PAGE = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
GET = b"GET /echo HTTP/1.1\r\n\r\n"


class Pages:
    """A handler whose answers a test can look into and hold."""

    def __init__(self):
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.asked_for_large = asyncio.Event()

    def __call__(self, request):
        if request.path.startswith("/echo"):
            return HttpResponse(200, f"{request.method} {request.target} ".encode() + bytes(request.body))
        if request.path == "/hold":
            return self.hold()
        if request.path == "/large":
            self.asked_for_large.set()
            return HttpResponse(200, bytes(30 << 20), "application/octet-stream")
        if request.path == "/missing":
            raise NotFound('no "m"')
        if request.path == "/unsendable":
            return HttpResponse(200, b"", headers=(("X-Price", "10 €"),))
        if request.path == "/broken":
            raise RuntimeError("a secret")
        if request.path == "/status":
            return HttpResponse(int(request.tail[1:]), b"{}")
        return None

    async def hold(self):
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return HttpResponse(200, b"held")


@pytest.fixture
async def pages():
    return Pages()


@asynccontextmanager
async def serving(pages, limits=None, admission=None):
    async with HttpServer(
        [pages],
        "127.0.0.1",
        0,
        error_response=error_response,
        admission=admission or Admission(100, 1 << 30),
        limits=limits,
    ) as server:
        yield server


@pytest.fixture
async def server(pages):
    async with serving(pages) as server:
        yield server


@asynccontextmanager
async def connected(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader):
    """Status, headers and body of one answer with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return status_line, headers, await reader.readexactly(int(headers.get("Content-Length", 0)))


async def everything(server, request):
    """All that the server sends until it closes."""
    async with connected(server) as (reader, writer):
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)


async def test_it_answers_with_type_date_and_length(server):
    async with connected(server) as (reader, writer):
        writer.write(b"GET /echo?x HTTP/1.1\r\n\r\n")
        status_line, headers, body = await answer(reader)
    assert status_line == "HTTP/1.1 200 OK"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers.pop("Date"))
    assert headers == {"Content-Type": "application/json", "Content-Length": "12"}
    assert body == b"GET /echo?x "


async def test_it_serves_the_standard_library_client_on_one_connection(server):
    def ask():
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        bodies = []
        for body in (b"one", b"two", iter([b"th", b"ree"])):
            client.request("POST", "/echo", body, encode_chunked=True)
            bodies.append(client.getresponse().read())
        client.close()
        return bodies

    assert await asyncio.to_thread(ask) == [b"POST /echo one", b"POST /echo two", b"POST /echo three"]


async def test_it_answers_pipelined_requests_in_order(server, pages):
    async with connected(server) as (reader, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n" + GET + b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        await pages.started.wait()
        pages.release.set()
        assert [(await answer(reader))[2] for _ in range(3)] == [b"held", b"GET /echo ", b"POST /echo x"]


async def test_it_answers_more_pipelined_requests_than_it_reads_ahead(server):
    async with connected(server) as (reader, writer):
        writer.write(GET * 20_000)
        for _ in range(20_000):
            await answer(reader)
        writer.write(b"POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\n")
        writer.write(b"last")
        assert (await answer(reader))[2] == b"POST /echo last"


async def test_it_echoes_connection_close_and_closes(server):
    text = await everything(server, b"GET /echo HTTP/1.1\r\nConnection: Close\r\n\r\n")
    assert b"Connection: close\r\n" in text
    assert text.endswith(b"GET /echo ")


async def test_http_1_0_ends_with_the_connection(server):
    text = await everything(server, b"GET /echo HTTP/1.0\r\n\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Date" not in head
    assert b"Content-Length" not in head
    assert body == b"GET /echo "


async def test_http_1_0_may_stay(server):
    async with connected(server) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            status_line, headers, body = await answer(reader)
            assert status_line == "HTTP/1.0 200 OK"
            assert headers["Connection"] == "keep-alive"
            assert body == b"GET /echo "


async def test_head_has_neither_body_nor_length(server):
    text = await everything(server, b"HEAD /echo HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 200 OK\r\n")
    assert text.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in text


async def test_nobodys_path_is_the_404_page_and_the_end(server):
    text = await everything(server, b"GET /nothing HTTP/1.1\r\n\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    assert body == NOT_FOUND_PAGE
    assert b"Content-Type: text/html\r\n" in head
    assert b"Connection: close" in head


@pytest.mark.parametrize(
    ("request_bytes", "status_line"),
    [
        (b"rubbish\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"TRACE / HTTP/1.1\r\n\r\n", b"HTTP/1.1 501 Not Implemented\r\n"),
        (b"POST / HTTP/1.1\r\nExpect: x\r\n\r\n", b"HTTP/1.1 417 Expectation Failed\r\n"),
        (b"GET /status?429 HTTP/1.1\r\nConnection: close\r\n\r\n", b"HTTP/1.1 429 Client Error\r\n"),
        (b"GET /status?499 HTTP/1.1\r\nConnection: close\r\n\r\n", b"HTTP/1.1 499 Client Error\r\n"),
        (b"GET /status?504 HTTP/1.1\r\nConnection: close\r\n\r\n", b"HTTP/1.1 504 Gateway Time-out\r\n"),
        (b"GET /status?409 HTTP/1.1\r\nConnection: close\r\n\r\n", b"HTTP/1.1 409 Conflict\r\n"),
    ],
)
async def test_it_words_its_status_lines(server, request_bytes, status_line):
    assert (await everything(server, request_bytes)).startswith(status_line)


async def test_it_shrugs_at_garbage_and_goes_on(server):
    for garbage in (
        b"\x00" * 1000,
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\xff\xfe GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n: \r\n\r\n",
    ):
        assert (await everything(server, garbage)).startswith(b"HTTP/1.1 400 Bad Request")
    async with connected(server) as (reader, writer):
        writer.write(GET)
        assert (await answer(reader))[2] == b"GET /echo "


async def test_errors_of_handlers_are_worded_and_the_connection_stays(server):
    async with connected(server) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /missing HTTP/1.1\r\n\r\n")
            status_line, headers, body = await answer(reader)
            assert status_line == "HTTP/1.1 404 Not Found"
            assert headers["Content-Type"] == "application/json"
            assert body == b'{\n    "error": "no \\"m\\""\n}'


async def test_an_unexpected_error_is_logged_once_and_kept_to_the_log(server, caplog):
    async with connected(server) as (reader, writer):
        writer.write(b"GET /broken HTTP/1.1\r\n\r\n")
        status_line, _, body = await answer(reader)
    assert status_line == "HTTP/1.1 500 Internal Server Error"
    assert body.startswith(b'{\n    "error": "')
    assert b"secret" not in body
    assert [record.getMessage() for record in caplog.records] == ["GET /broken failed"]


async def test_an_answer_that_cannot_be_sent_costs_its_connection_only(server, caplog):
    assert await everything(server, b"GET /unsendable HTTP/1.1\r\n\r\n") == b""
    assert "An answer could not be sent" in caplog.text
    assert (await everything(server, b"GET /echo HTTP/1.0\r\n\r\n")).endswith(b"GET /echo ")


async def test_it_tells_a_careful_client_to_continue(server):
    async with connected(server) as (reader, writer):
        writer.write(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await answer(reader))[2] == b"POST /echo ok"


async def test_continue_waits_for_the_answers_before_it(server, pages):
    async with connected(server) as (reader, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        await pages.started.wait()
        writer.write(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        pages.release.set()
        assert (await answer(reader))[2] == b"held"
        assert await reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_a_refused_upload_reads_why(pages):
    async with serving(pages, Limits(max_body_bytes=1000)) as server, connected(server) as (reader, writer):
        writer.write(b"POST /echo HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n" + bytes(5_000_000))
        status_line, headers, _ = await answer(reader)
        assert status_line == "HTTP/1.1 413 Request Entity Too Large"
        assert headers["Connection"] == "close"
        assert await reader.read() == b""


async def test_it_answers_a_client_that_has_stopped_sending(server, pages):
    async with connected(server) as (reader, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        writer.write_eof()
        await pages.started.wait()
        pages.release.set()
        assert (await answer(reader))[2] == b"held"
        assert await reader.read() == b""


async def test_it_cancels_the_handler_of_a_connection_that_broke(server, pages):
    async with connected(server) as (_, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        await pages.started.wait()
        # A reset: a plain close might only mean that the client has asked everything.
        reset_on_close = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_on_close)
        writer.transport.abort()
        await pages.cancelled.wait()
    assert pages.cancelled.is_set()


@pytest.mark.proves("difference: Sizes and idleness over HTTP")
async def test_it_cuts_a_client_that_is_slow_with_its_head(pages):
    async with serving(pages, Limits(stall_timeout_seconds=0.02)) as server:
        assert (await everything(server, b"GET /echo HT")).startswith(b"HTTP/1.1 408 Request Time-out\r\n")


async def test_a_trickle_does_not_move_the_end_of_the_heads_time(pages):
    async with serving(pages, Limits(stall_timeout_seconds=0.05)) as server, connected(server) as (reader, writer):
        writer.write(b"GET /")
        received = b""
        while not received:
            writer.write(b"x")
            with suppress(asyncio.TimeoutError):
                received = await asyncio.wait_for(reader.read(100), 0.005)
        assert received.startswith(b"HTTP/1.1 408 Request Time-out\r\n")


@pytest.mark.proves("difference: Sizes and idleness over HTTP")
async def test_it_cuts_a_body_that_stands_still(pages):
    async with serving(pages, Limits(stall_timeout_seconds=0.02)) as server:
        text = await everything(server, b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
        assert text.startswith(b"HTTP/1.1 408")


@pytest.mark.proves("difference: Sizes and idleness over HTTP")
async def test_it_closes_idle_connections(pages):
    async with serving(pages, Limits(idle_timeout_seconds=0.02)) as server:
        assert await everything(server, b"") == b""
        assert (await everything(server, GET)).endswith(b"GET /echo ")


async def test_it_leaves_a_working_handler_its_time(pages):
    limits = Limits(idle_timeout_seconds=0.01, stall_timeout_seconds=0.01)
    async with serving(pages, limits) as server, connected(server) as (reader, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        asyncio.get_running_loop().call_later(0.05, pages.release.set)
        assert (await answer(reader))[2] == b"held"


async def test_it_gives_up_on_a_client_that_does_not_read(pages):
    async with serving(pages, Limits(stall_timeout_seconds=0.02)) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            await pages.asked_for_large.wait()
            (connection,) = server.connections
            await asyncio.wait_for(connection.closed, 10)
            assert not server.connections


async def test_an_answer_that_nobody_reads_counts_among_the_bytes_in_flight(pages):
    admission = Admission(100, 1 << 20)
    async with serving(pages, admission=admission) as server, connected(server) as (reader, writer):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            await pages.asked_for_large.wait()
            writer.write(b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
            assert (await answer(reader))[0] == "HTTP/1.1 429 Client Error"
            (lazy,) = (each for each in server.connections if not each._is_writable)
        await lazy.closed
        assert admission.held == 0


async def test_it_sends_large_answers_whole(server):
    async with connected(server) as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\n\r\n" + GET)
        assert len((await answer(reader))[2]) == 30 << 20
        assert (await answer(reader))[2] == b"GET /echo "


async def test_it_sheds_posts_over_the_limit_and_nothing_else(pages):
    admission = Admission(1, 1 << 20)
    async with serving(pages, admission=admission) as server, connected(server) as one, connected(server) as two:
        one[1].write(b"POST /hold HTTP/1.1\r\n\r\n")
        await pages.started.wait()
        two[1].write(b"POST /echo HTTP/1.1\r\n\r\n" + GET)
        status_line, _, body = await answer(two[0])
        assert status_line == "HTTP/1.1 429 Client Error"
        assert b"--max_inflight_calls" in body
        assert (await answer(two[0]))[2] == b"GET /echo "
        pages.release.set()
        assert (await answer(one[0]))[2] == b"held"
        await admission.idle()


async def test_stop_answers_what_is_under_way_and_closes_idle_connections(pages):
    async with serving(pages) as server, connected(server) as idle, connected(server) as busy:
        idle[1].write(GET)
        await answer(idle[0])
        busy[1].write(b"GET /hold HTTP/1.1\r\n\r\n" + GET)
        await pages.started.wait()
        stopping = asyncio.create_task(server.stop(30))
        assert await idle[0].read() == b""
        pages.release.set()
        assert "Connection" not in (await answer(busy[0]))[1]
        assert (await answer(busy[0]))[1]["Connection"] == "close"
        assert await busy[0].read() == b""
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)


async def test_stop_lets_a_request_finish_coming_in(pages):
    async with serving(pages) as server, connected(server) as (reader, writer):
        writer.write(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        stopping = asyncio.create_task(server.stop(30))
        writer.write(b"ok")
        assert (await answer(reader))[2] == b"POST /echo ok"
        await stopping


async def test_stop_cuts_off_what_outlasts_the_grace_time(pages):
    async with serving(pages) as server, connected(server) as (reader, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        await pages.started.wait()
        await server.stop(0.01)
        await pages.cancelled.wait()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


async def test_it_names_a_port_that_is_taken(pages):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", ""):
            server = HttpServer([], host, port, error_response=error_response, admission=Admission(1, 1))
            with pytest.raises(FailedPrecondition, match=f"Failed to start HTTP Server at .*:{port}: Address already"):
                async with server:
                    pass


async def test_it_listens_on_every_interface(pages):
    server = HttpServer([pages], "", 0, error_response=error_response, admission=Admission(1, 1))
    async with server:
        async with connected(server) as (reader, writer):
            writer.write(GET)
            assert (await answer(reader))[2] == b"GET /echo "
        if socket.has_dualstack_ipv6():
            reader, writer = await asyncio.open_connection("::1", server.port)
            writer.write(GET)
            assert (await answer(reader))[2] == b"GET /echo "
            writer.close()
