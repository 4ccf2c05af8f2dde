"""Calls over one connection: answers under flow control, credit given back, errors, cancellation, patience."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from base64 import b64encode
from dataclasses import replace

import h2.config
import h2.connection
import h2.events
import pytest

from pyserving.errors import FailedPrecondition
from pyserving.transports.admission import Admission
from pyserving.transports.http2 import Limits
from pyserving.transports.http2.errors import ErrorCode
from tests.transports.http2.peer import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Ended,
    Service,
    block,
    connected,
    frame,
    headers,
    integer,
    message,
    request,
    serving,
)

SMALL = Limits(stream_window=1 << 16, large_stream_window=1 << 17, connection_window=1 << 17, max_frame=1 << 14)


@pytest.fixture
async def service():
    return Service()


@pytest.fixture
async def server(service):
    async with serving(service) as server:
        yield server


@pytest.fixture
async def client(server):
    async with connected(server) as client:
        yield client


async def test_an_answer_is_headers_message_and_trailers(client):
    client.send(request(1, b"hello"))
    answer = await client.answer(1)
    assert answer.data == message(b"hello")
    assert answer.fields == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity, deflate, gzip",
        "grpc-status": "0",
    }


async def test_an_error_is_trailers_only_with_its_message_percent_encoded(service, client):
    async def refuse(body, call):
        raise FailedPrecondition(" 100 % größer\n")

    service.echo = refuse
    async with serving(service) as server, connected(server) as client:
        client.send(request(1))
        first = await client.until(HEADERS)
        assert first.flags & END_STREAM
        assert client.answers[1].status == ("9", "%20100 %25 gr%C3%B6%C3%9Fer%0A")


async def test_an_unknown_method_is_unimplemented_without_a_message(client):
    client.send(request(1, path="/t.T/Nothing"))
    assert (await client.answer(1)).status == ("12", "")


async def test_a_call_answered_before_its_request_has_ended_is_let_go_without_blame(client):
    client.send(headers(1, of=block("/t.T/Nothing")))
    assert (await client.answer(1)).status == ("12", "")
    assert (await client.until(RST_STREAM))[2:] == (1, integer(ErrorCode.NO_ERROR))
    client.send(frame(DATA, 0, 1, b"on its way") + frame(DATA, END_STREAM, 1, b"already") + request(3, b"next"))
    assert (await client.answer(3)).data == message(b"next")


@pytest.mark.parametrize(("field", "status"), [((":method", "GET"), "405"), (("content-type", "text/plain"), "415")])
async def test_what_is_not_grpc_is_answered_in_http(client, field, status):
    client.send(headers(1, 4 | END_STREAM, block("/t.T/Echo", field, without=field[0])))
    if field[0] == ":method":  # it has to stand among the first
        assert await client.end() == Ended(1, ErrorCode.PROTOCOL_ERROR)
    else:
        assert (await client.answer(1)).fields[":status"] == status


async def test_metadata_and_deadline_reach_the_method(service, client):
    before = asyncio.get_running_loop().time()
    blob = b64encode(b"\x00\xff").decode()
    client.send(request(1, b"", "/t.T/Echo", ("tenant", "a"), ("blob-bin", blob), ("grpc-timeout", "50S")))
    await client.answer(1)
    _, call = service.calls[0]
    assert call.metadata == {"tenant": "a", "blob-bin": b"\x00\xff"}
    assert call.deadline - before == pytest.approx(50, abs=5)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("size", [10, 200_000])
async def test_compressed_requests_are_answered_plainly(service, client, encoding, pack, size):
    body = bytes(range(256)) * (size // 256 + 1)
    packed = pack(body, 0)
    client.send(headers(1, of=block("/t.T/Echo", ("grpc-encoding", encoding))))
    client.send(frame(WINDOW_UPDATE, 0, 0, integer(1 << 20)) + frame(WINDOW_UPDATE, 0, 1, integer(1 << 20)))
    client.send(frame(DATA, END_STREAM, 1, b"\1" + message(packed)[1:]))
    answer = await client.answer(1)
    assert (answer.status, answer.data) == (("0", ""), message(body))


async def test_an_unknown_compression_is_unimplemented_and_told_what_is_known(client):
    client.send(request(1, b"", "/t.T/Echo", ("grpc-encoding", "snappy")))
    answer = await client.answer(1)
    assert answer.status[0] == "12"
    assert answer.fields["grpc-accept-encoding"] == "identity, deflate, gzip"


@pytest.mark.parametrize(
    ("case", "data"),
    [
        ("no message", b""),
        ("a message that does not end", message(b"hello")[:-1]),
        ("a prefix that does not end", b"\0\0"),
        ("two messages", message(b"1") + message(b"2")),
        ("compressed by nothing", b"\1" + message(b"1")[1:]),
        ("a flag that nobody knows", b"\7" + message(b"1")[1:]),
    ],
)
async def test_requests_that_are_no_message_are_internal(client, case, data):
    client.send(headers(1) + frame(DATA, END_STREAM, 1, data) + request(3, b"next"))
    assert (await client.answer(1)).status[0] == "13"
    assert (await client.answer(3)).data == message(b"next")


# Windows


async def test_a_large_answer_waits_for_the_streams_window(client):
    client.send(request(1, b"100000", "/t.T/Give"))
    await client.sync()
    assert len(client.answers[1].data) == 65535
    client.send(request(3, b"", "/t.T/Echo"))
    await client.sync()
    assert not client.answers[3].is_over  # for the connection's window is used up as well
    client.send(frame(WINDOW_UPDATE, 0, 0, integer(1 << 20)))
    assert (await client.answer(3)).data == message(b"")
    await client.sync()
    assert len(client.answers[1].data) == 65535
    client.send(frame(WINDOW_UPDATE, 0, 1, integer(1 << 20)))
    assert (await client.answer(1)).data == message(bytes(100_000))


async def test_settings_change_the_windows_of_streams_that_are_open(client):
    client.send(frame(SETTINGS, 0, 0, b"\0\4" + integer(10)) + request(1, b"95", "/t.T/Give"))
    await client.sync()
    assert len(client.answers[1].data) == 10
    client.send(frame(SETTINGS, 0, 0, b"\0\4" + integer(5)) + frame(WINDOW_UPDATE, 0, 1, integer(5)))
    await client.sync()
    assert len(client.answers[1].data) == 10
    client.send(frame(SETTINGS, 0, 0, b"\0\4" + integer(95)))
    assert (await client.answer(1)).data == message(bytes(95))


async def test_large_answers_take_turns(client):
    client.send(frame(SETTINGS, 0, 0, b"\0\4" + integer(1 << 22)))
    client.send(request(1, b"1000000", "/t.T/Give") + request(3, b"1000000", "/t.T/Give"))
    client.send(frame(WINDOW_UPDATE, 0, 0, integer(1 << 22)))
    seen = []
    while not all(client.answers.get(n) is not None and client.answers[n].is_over for n in (1, 3)):
        got = await client.frame()
        client._note(got)
        seen.append(got.stream_id)
    assert max(len(run) for run in "".join(map(str, seen)).split("3")) < 40
    assert client.answers[1].data == client.answers[3].data == message(bytes(1_000_000))


async def test_frames_are_as_large_as_the_peer_takes_them(client):
    client.send(frame(SETTINGS, 0, 0, b"\0\4" + integer(1 << 20) + b"\0\5" + integer(50_000)))
    client.send(frame(WINDOW_UPDATE, 0, 0, integer(1 << 20)) + request(1, b"120000", "/t.T/Give"))
    sizes = []
    while not client.answers.get(1) or not client.answers[1].is_over:
        got = await client.frame()
        client._note(got)
        if got.kind == DATA:
            sizes.append(len(got.payload))
    assert sizes == [50_000, 50_000, 20_005]


async def test_credit_is_given_back_in_large_steps(service):
    async with serving(service, limits=SMALL) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        conn.initiate_connection()
        conn.send_headers(
            1,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/t.T/Echo"),
                (":authority", "a"),
                ("content-type", "application/grpc"),
            ],
        )
        body, updates, data, over = message(bytes(1_000_000)), 0, b"", False
        while not over:
            while body and (room := min(conn.local_flow_control_window(1), conn.max_outbound_frame_size, len(body))):
                conn.send_data(1, body[:room], end_stream=room == len(body))
                body = body[room:]
            writer.write(conn.data_to_send())
            for event in conn.receive_data(await reader.read(1 << 16)):
                if isinstance(event, h2.events.WindowUpdated):
                    updates += 1
                elif isinstance(event, h2.events.DataReceived):
                    data += event.data
                    conn.acknowledge_received_data(event.flow_controlled_length, 1)
                over |= isinstance(event, h2.events.StreamEnded)
        writer.close()
    assert data == message(bytes(1_000_000))
    assert updates < 60


async def test_data_over_the_streams_window_ends_the_stream(service):
    async with serving(service, limits=SMALL) as server, connected(server) as client:
        client.send(headers(1, of=block("/t.T/ReadNone")))
        client.send(b"".join(frame(DATA, 0, 1, message(bytes(16_000))) for _ in range(5)))
        assert await client.end() == Ended(1, ErrorCode.FLOW_CONTROL_ERROR)
        client.send(request(3, b"next"))
        assert (await client.answer(3)).data == message(b"next")


async def test_data_over_the_connections_window_ends_the_connection(service):
    limits = replace(SMALL, connection_window=1 << 16, stream_window=1 << 20, max_frame=1 << 17)
    async with serving(service, limits=limits) as server, connected(server) as client:
        client.send(headers(1) + frame(DATA, 0, 1, bytes(70_000)))
        assert await client.end() == Ended(0, ErrorCode.FLOW_CONTROL_ERROR)


async def test_a_stream_gets_credit_for_what_its_method_has_taken(service):
    async with serving(service, limits=SMALL) as server, connected(server) as client:
        client.send(headers(1, of=block("/t.T/ReadNone")))
        client.send(frame(DATA, 0, 1, message(bytes(16_000))) * 4)
        await client.sync()
        client.send(frame(WINDOW_UPDATE, 0, 0, integer(1 << 20)) + frame(WINDOW_UPDATE, 0, 1, integer(1 << 20)))
        service.release.set()
        while (await client.until(WINDOW_UPDATE)).stream_id != 1:
            pass
        client.send(frame(DATA, END_STREAM, 1, message(bytes(16_000))))
        assert len((await client.answer(1)).data) == 5 * 16_005


async def test_there_is_no_credit_of_nothing(service):
    """It would be an error of ours (RFC 9113, 6.9)."""
    async with serving(service, limits=SMALL) as server, connected(server) as client:
        client.send(headers(1, of=block("/t.T/ReadNone")))
        client.send((frame(DATA, 0, 1, message(bytes(16_379))) * 4) + frame(PING, 0, 0, b"the end!"))
        while (got := await client.frame()).kind != PING:
            assert (got.kind, got.payload) != (WINDOW_UPDATE, integer(0))


@pytest.mark.parametrize("body", [b"a" * 1000, bytes(1 << 20)])
async def test_compressed_messages_of_streams_reach_their_method(service, client, body):
    client.send(frame(WINDOW_UPDATE, 0, 0, integer(4 << 20)) + frame(SETTINGS, 0, 0, b"\0\4" + integer(4 << 20)))
    client.send(headers(1, of=block("/t.T/Double", ("grpc-encoding", "gzip"))))
    client.send(frame(DATA, END_STREAM, 1, b"\1" + message(gzip.compress(body))[1:]))
    assert (await client.answer(1)).data == 2 * message(body)


async def test_a_broken_message_of_a_stream_is_internal(service, client):
    client.send(headers(1, of=block("/t.T/Double", ("grpc-encoding", "gzip"))))
    client.send(frame(DATA, END_STREAM, 1, b"\1" + message(b"abc")[1:]))
    assert (await client.answer(1)).status[0] == "13"


# Ends


async def test_a_reset_cancels_the_method(service, client):
    client.send(request(1, b"", "/t.T/Hold"))
    await service.started.wait()
    client.send(frame(RST_STREAM, 0, 1, integer(ErrorCode.CANCEL)))
    await service.cancelled.wait()
    client.send(request(3, b"next"))
    assert (await client.answer(3)).data == message(b"next")
    assert 1 not in client.answers


async def test_a_lost_connection_cancels_its_methods_and_holds_nothing(service):
    admission = Admission(10, 1 << 30)
    async with serving(service, admission) as server:
        async with connected(server) as client:
            client.send(request(1, b"", "/t.T/Hold") + headers(3) + frame(DATA, 0, 3, message(bytes(30_000))[:20_000]))
            await service.started.wait()
            await client.sync()
            assert admission.held > 0
        await service.cancelled.wait()
    assert (admission.calls, admission.bytes, admission.held) == (0, 0, 0)


async def test_a_deadline_that_the_method_does_not_keep_ends_the_call(service, client):
    client.send(request(1, b"", "/t.T/Hold", ("grpc-timeout", "1m")))
    assert (await client.answer(1)).status == ("4", "Deadline Exceeded")
    await service.cancelled.wait()


async def test_a_method_that_is_cancelled_from_within_is_told_to_the_client(service):
    async def cancelled(body, call):
        raise asyncio.CancelledError

    service.echo = cancelled
    async with serving(service) as server, connected(server) as client:
        client.send(request(1))
        assert (await client.answer(1)).status == ("1", "")
        client.send(request(3))
        assert (await client.answer(3)).status == ("1", "")


async def test_a_goaway_asks_for_no_more_then_names_the_last_call(service, server):
    async with connected(server) as client:
        client.send(request(1, b"one", "/t.T/Hold"))
        await service.started.wait()
        stopping = asyncio.create_task(server.stop(30))
        first = await client.until(GOAWAY)
        assert first.payload == integer((1 << 31) - 1) + integer(ErrorCode.NO_ERROR)
        ping = await client.until(PING)
        client.send(request(3, b"on its way") + frame(PING, 1, 0, ping.payload) + request(5, b"too late"))
        assert (await client.answer(3)).data == message(b"on its way")
        second = await client.until(GOAWAY)
        assert second.payload == integer(3) + integer(ErrorCode.NO_ERROR)
        service.release.set()
        assert (await client.answer(1)).data == message(b"one")
        assert await client.frame() is None
        client.writer.close()
        await stopping
    assert len(service.calls) == 2


async def test_the_last_answer_reaches_a_slow_reader_that_goes_on_giving_credit(service, server):
    """What comes for a socket that is closed has the system drop what it has not sent yet."""
    async with connected(server, receive_bytes=4096) as client:
        await client.sync()
        client.reader._transport.pause_reading()
        credit = b"\0\4" + integer(4 << 20)
        client.send(frame(SETTINGS, 0, 0, credit) + frame(WINDOW_UPDATE, 0, 0, integer(4 << 20)))
        client.send(request(1, b"1000000", "/t.T/Give") + request(3, b"", "/t.T/Hold"))
        await service.started.wait()
        (wire,) = server.wires
        stopping = asyncio.create_task(server.stop(30))
        client.send(frame(PING, ACK, 0, b"drained?"))
        service.release.set()
        while not wire.connection.departure.is_leaving:  # noqa: ASYNC110  nobody says so
            await asyncio.sleep(0)
        while wire._transport.get_write_buffer_size():  # noqa: ASYNC110
            await asyncio.sleep(0)
        client.send(frame(WINDOW_UPDATE, 0, 0, integer(1)))
        for _ in range(50):  # turns in which the server would close
            await asyncio.sleep(0)
        client.send(frame(WINDOW_UPDATE, 0, 0, integer(1)))
        client.reader._transport.resume_reading()
        assert len((await client.answer(1)).data) == 1_000_005
        assert (await client.answer(3)).status == ("0", "")
        client.writer.close()
        await stopping


async def test_stopping_waits_for_no_one_who_has_not_greeted(service, server):
    async with connected(server, greets=False) as client:
        await client.until(SETTINGS)
        await asyncio.wait_for(server.stop(30), 5)


async def test_an_old_connection_is_asked_to_come_again(service):
    limits = replace(Limits(), max_connection_age=0.01)
    async with serving(service, limits=limits) as server, connected(server) as client:
        assert (await client.until(GOAWAY)).payload == integer((1 << 31) - 1) + integer(ErrorCode.NO_ERROR)
        ping = await client.until(PING)
        client.send(frame(PING, 1, 0, ping.payload))
        assert (await client.until(GOAWAY)).payload == integer(0) + integer(ErrorCode.NO_ERROR)
        assert await client.frame() is None


async def test_a_silent_peer_is_pinged_and_then_left(service):
    limits = replace(Limits(), keepalive_time=0.02, keepalive_timeout=0.02)
    async with serving(service, limits=limits) as server, connected(server) as client:
        assert not (await client.until(PING)).flags
        while (frame_ := await client.frame()) is not None:
            assert frame_.kind == SETTINGS  # the acknowledgement of ours, should it have come late
