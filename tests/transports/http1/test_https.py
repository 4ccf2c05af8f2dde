"""The HTTP port over TLS, asked by curl and by Python's own clients."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager, suppress

import pytest

from pyserving.frontends.http_status import error_response
from pyserving.messages import HttpResponse
from pyserving.transports.acceptor import Door
from pyserving.transports.admission import Admission
from pyserving.transports.http1 import HttpServer, Limits
from pyserving.transports.tls import Tls, credentials_of
from tests.certificates import Authority, client_context, identity

SECONDS = 30.0
LARGE = 30 << 20


async def page(request):
    if request.path == "/large":
        return HttpResponse(200, bytes(LARGE), "application/octet-stream")
    return HttpResponse(200, f"{request.method} {request.path} ".encode() + request.body)


@pytest.fixture
async def tls(authority):
    return Tls(credentials_of(identity(authority.issue("server"))))


@pytest.fixture
async def mutual_tls(authority):
    return Tls(credentials_of(identity(authority.issue("server"), authority)))


@asynccontextmanager
async def serving(tls, limits=None, max_connections=100):
    async with HttpServer(
        [page],
        "127.0.0.1",
        0,
        error_response=error_response,
        admission=Admission(100, 1 << 30),
        limits=limits,
        door=Door(max_connections, tls and (lambda: tls.credentials.http1)),
    ) as server:
        yield server


async def curl(server, authority, *more, path="/page"):
    """Exit status, and what is printed."""
    if shutil.which("curl") is None:
        pytest.skip("needs the curl command")
    words = ["curl", "-sS", "--max-time", "30", "--cacert", authority.path, f"https://localhost:{server.port}{path}"]
    # uvloop's own subprocesses fork, which a process with gRPC's threads in it does not always survive.
    ended = await asyncio.to_thread(
        subprocess.run, list(map(str, [*words, *more])), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return ended.returncode, ended.stdout


@asynccontextmanager
async def connected(server, context):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="localhost")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_curl_is_answered_over_http_1_1(tls, authority):
    async with serving(tls) as server:
        status, printed = await curl(server, authority, "-w", " %{http_version} %{ssl_verify_result}", "-d", "body")
    assert (status, printed) == (0, b"POST /page body 1.1 0")


async def test_curl_needs_to_know_the_authority(tls, tmp_path):
    async with serving(tls) as server:
        status, printed = await curl(server, Authority(tmp_path))
    assert status == 60  # the server's certificate could not be verified
    assert b"certificate" in printed


async def test_curl_with_a_certificate_is_let_in(mutual_tls, authority):
    client = authority.issue("client")
    async with serving(mutual_tls) as server:
        status, printed = await curl(server, authority, "--cert", client.path, "--key", client.key_path)
    assert (status, printed) == (0, b"GET /page ")


async def test_curl_without_a_certificate_is_refused(mutual_tls, authority):
    async with serving(mutual_tls) as server:
        status, printed = await curl(server, authority)
    assert status in (35, 52, 56)  # an alert, an empty reply or a reset, whichever comes first
    assert b"GET" not in printed


@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h2", "http/1.1")])
async def test_http_1_1_is_agreed_on_or_taken_for_granted(tls, authority, protocols):
    async with (
        serving(tls) as server,
        connected(server, client_context(authority, protocols=protocols)) as (reader, out),
    ):
        chosen = out.get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == ("http/1.1" if protocols else None)
        out.write(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = await asyncio.wait_for(reader.read(), SECONDS)
        assert (b"GET /a " in answers, b"GET /b " in answers) == (True, True)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_tls_1_1_is_refused(tls, authority):
    old = client_context(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(tls) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(server, old):
                pass


@pytest.mark.parametrize("ending", [b"", b"Connection: close\r\n"])
async def test_a_large_answer_reaches_a_reader_of_small_pieces_whole(tls, authority, ending):
    async with serving(tls) as server, connected(server, client_context(authority)) as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\n%b\r\n" % ending)
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        while received < LARGE:
            received += len(await asyncio.wait_for(reader.read(1 << 16), SECONDS))
        assert received == LARGE


async def test_a_client_that_is_refused_reads_why(tls, authority):
    limits = Limits(max_body_bytes=100)
    async with serving(tls, limits) as server, connected(server, client_context(authority)) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000))
        assert (await asyncio.wait_for(reader.readline(), SECONDS)).startswith(b"HTTP/1.1 413 ")


async def test_a_refused_client_that_stays_is_let_go_of(tls, authority):
    limits = Limits(linger_seconds=0.1)
    async with serving(tls, limits) as server, connected(server, client_context(authority)) as (reader, writer):
        writer.write(b"nonsense\r\n\r\n")
        answer = b""
        with suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(), SECONDS)  # to the end of the connection
        assert answer.startswith(b"HTTP/1.1 400 ")
        writer.transport.abort()


async def test_a_plain_request_harms_nobody(tls, authority):
    async with serving(tls) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionError):
            assert not (await asyncio.wait_for(reader.read(), SECONDS)).startswith(b"HTTP")
        writer.transport.abort()
        assert (await curl(server, authority))[0] == 0


async def test_an_idle_client_goes_with_the_server(tls, authority):
    async with serving(tls) as server, connected(server, client_context(authority)) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"GET / ")
        await asyncio.wait_for(server.stop(SECONDS), SECONDS)
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""


async def test_new_connections_have_the_new_certificate(tls, authority):
    async with serving(tls) as server:
        assert b"CN=server" in (await curl(server, authority, "-v"))[1].replace(b" ", b"")
        tls.renew(credentials_of(identity(authority.issue("renewed"))))
        assert b"CN=renewed" in (await curl(server, authority, "-v"))[1].replace(b" ", b"")


async def test_one_connection_too_many_is_closed():
    async with serving(None, max_connections=1) as server:
        reader, first = await asyncio.open_connection("127.0.0.1", server.port)
        first.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"GET / ")
        refused, second = await asyncio.open_connection("127.0.0.1", server.port)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(refused.read(), SECONDS) == b""
        first.close()
        second.close()
