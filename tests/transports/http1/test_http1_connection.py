"""The connection's own behaviour, in memory: what it keeps, whom it waits for, how it ends."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from pyserving.messages import HttpResponse
from pyserving.transports.admission import Admission
from pyserving.transports.http1 import Limits, connection
from tests.clock import Clock
from tests.http_conversation import Conversation

GET = b"GET /now HTTP/1.1\r\n\r\n"
LATER = b"GET /later HTTP/1.1\r\n\r\n"


class Handler:
    """Answers `/now` at once, anything else when it is told to."""

    def __init__(self):
        self.release = asyncio.Event()
        self.asked = []

    def __call__(self, request):
        if request.path == "/now":
            return HttpResponse(200, b"now")
        return self._later(request)

    async def _later(self, request):
        self.asked.append(request.path)
        await self.release.wait()
        return HttpResponse(200, request.body or b"later")


@pytest.fixture
async def handler():
    return Handler()


def bodies(said):
    return [part.rpartition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 200 OK")[1:]]


async def test_an_answer_that_needs_no_waiting_is_written_before_the_loop_turns(handler):
    conversation = Conversation([handler])
    conversation.say(GET + GET)
    assert bodies(b"".join(conversation.transport.writes)) == [b"now", b"now"]


async def test_a_handler_begins_before_the_loop_turns(handler):
    conversation = Conversation([handler])
    conversation.say(LATER)
    assert handler.asked == ["/later"]
    handler.release.set()
    assert bodies(await conversation.heard()) == [b"later"]


async def test_it_reads_no_further_while_answers_wait(handler):
    conversation = Conversation([handler])
    conversation.say(LATER)
    assert not conversation.transport.is_reading_paused
    conversation.say(GET + GET)
    assert conversation.transport.is_reading_paused
    handler.release.set()
    assert bodies(await conversation.heard()) == [b"later", b"now", b"now"]
    assert not conversation.transport.is_reading_paused


async def test_it_answers_no_more_than_the_client_reads(handler):
    conversation = Conversation([handler])
    conversation.connection.pause_writing()
    conversation.say(GET)
    assert conversation.transport.writes == []
    conversation.connection.resume_writing()
    assert bodies(await conversation.heard()) == [b"now"]


@pytest.mark.proves("difference: Sizes and idleness over HTTP")
async def test_memory_of_a_body_is_held_until_its_request_is_admitted(handler):
    conversation = Conversation([handler])
    conversation.say(b"POST /later HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(99_999))
    assert (conversation.admission.held, conversation.admission.bytes) == (100_000, 0)
    conversation.say(b"x")
    assert (conversation.admission.held, conversation.admission.bytes) == (0, 100_000)
    handler.release.set()
    await conversation.heard()
    assert (conversation.admission.held, conversation.admission.bytes) == (0, 0)


async def test_memory_of_a_body_that_stays_unfinished_is_given_back(handler):
    conversation = Conversation([handler])
    conversation.say(b"POST /later HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(10))
    assert conversation.admission.held == 16 << 10
    conversation.connection.abort()
    await conversation.connection.closed
    assert conversation.admission.held == 0


async def test_bodies_that_have_hardly_begun_leave_room_for_others(handler):
    admission = Admission(1000, 1 << 20)
    begun = [Conversation([handler], admission=admission) for _ in range(50)]
    for conversation in begun:
        conversation.say(b"POST /later HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nx")
    other = Conversation([handler], admission=admission)
    assert bodies(await other.ask(b"POST /now HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))) == [b"now"]


async def test_answers_that_are_not_read_are_counted(handler):
    conversation = Conversation([handler])
    conversation.transport.unread_bytes = 3_000_000
    conversation.connection.pause_writing()
    assert conversation.admission.held == 3_000_000
    conversation.connection.resume_writing()
    assert conversation.admission.held == 0
    conversation.connection.pause_writing()
    conversation.connection.abort()
    await conversation.connection.closed
    assert conversation.admission.held == 0


async def test_who_sends_many_requests_at_once_is_answered_by_turns(handler, monkeypatch):
    milliseconds = itertools.count()
    monkeypatch.setattr(connection, "perf_counter", lambda: next(milliseconds) / 1000)
    conversation = Conversation([handler])
    conversation.say(GET * 9 + LATER + GET)
    assert 0 < len(conversation.transport.writes) < 5
    assert conversation.transport.is_reading_paused
    handler.release.set()
    said = b""
    while b"later" not in said or not said.endswith(b"now"):
        said += await conversation.heard()
    assert bodies(said) == [b"now"] * 9 + [b"later", b"now"]
    assert not conversation.transport.is_reading_paused


async def test_who_has_asked_many_questions_and_said_all_is_answered(handler, monkeypatch):
    monkeypatch.setattr(connection, "perf_counter", itertools.count(1).__next__)  # a turn for each
    conversation = Conversation([handler])
    conversation.say(GET * 5)
    assert conversation.connection.eof_received()
    await conversation.connection.closed
    assert bodies(await conversation.heard()) == [b"now"] * 5


async def test_a_body_for_which_there_is_no_memory_is_refused_in_json(handler):
    conversation = Conversation([handler], admission=Admission(10, 1 << 20))
    said = await conversation.ask(b"POST /later HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n" + bytes(3_000_000))
    assert said.startswith(b"HTTP/1.1 429 Client Error\r\nContent-Type: application/json\r\n")
    assert b"Connection: close" in said
    assert b"--max_inflight_bytes" in said
    assert conversation.transport.has_said_all
    assert conversation.admission.held == 0


async def test_while_the_server_drains_posts_are_refused_and_pages_answered(handler):
    conversation = Conversation([handler])
    conversation.say(b"POST /later HTTP/1.1\r\nContent-Length: 1\r\n\r\na")
    draining = asyncio.create_task(conversation.server.drain(30))
    await asyncio.sleep(0)
    handler.release.set()
    assert bodies(await conversation.heard()) == [b"a"]
    await draining
    assert bodies(await conversation.ask(GET)) == [b"now"]
    said = await conversation.ask(b"POST /now HTTP/1.1\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Connection: close" in said


async def test_draining_lasts_no_longer_than_the_grace_time(handler):
    conversation = Conversation([handler])
    conversation.say(b"POST /later HTTP/1.1\r\nContent-Length: 1\r\n\r\na")
    await conversation.server.drain(0.01)
    assert conversation.admission.calls == 1
    handler.release.set()
    await conversation.heard()


class TestPatience:
    LIMITS = Limits(idle_timeout_seconds=1000, stall_timeout_seconds=100, linger_seconds=10)

    @pytest.fixture
    async def conversation(self, handler):
        return Conversation([handler], limits=self.LIMITS)

    @pytest.fixture
    async def pass_time(self, conversation):
        """Moves the clock on, and has the connection look at it."""
        loop = asyncio.get_running_loop()
        clock = Clock(loop)

        def pass_time(seconds):
            clock.advance(seconds)
            conversation.connection.check(loop.time())

        return pass_time

    async def test_an_idle_connection_is_closed(self, conversation, pass_time):
        pass_time(990)
        conversation.say(GET)
        pass_time(990)
        assert not conversation.transport.is_closed
        pass_time(11)
        assert conversation.transport.is_closed

    @pytest.mark.parametrize("part", [b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"])
    async def test_a_request_that_stands_still_is_refused(self, conversation, pass_time, part):
        conversation.say(part)
        pass_time(90)
        assert conversation.transport.writes == []
        pass_time(11)
        assert (await conversation.heard()).startswith(b"HTTP/1.1 408 Request Time-out\r\n")
        pass_time(9)
        assert not conversation.transport.is_closed  # it lingers, for the client to read
        pass_time(2)
        assert conversation.transport.is_closed

    async def test_bytes_buy_a_body_more_time_and_a_head_none(self, conversation, handler, pass_time):
        for byte in b"GET":
            conversation.say(bytes([byte]))
            pass_time(40)
        assert (await conversation.heard()).startswith(b"HTTP/1.1 408")
        other = Conversation([handler], limits=self.LIMITS)
        other.say(b"POST /now HTTP/1.1\r\nContent-Length: 3\r\n\r\n")
        for byte in b"abc":
            pass_time(90)
            other.connection.check(asyncio.get_running_loop().time())
            other.say(bytes([byte]))
        assert bodies(await other.heard()) == [b"now"]

    async def test_a_handler_has_its_time(self, conversation, handler, pass_time):
        conversation.say(LATER)
        pass_time(5000)
        handler.release.set()
        assert bodies(await conversation.heard()) == [b"later"]

    async def test_a_client_that_does_not_read_is_cut_off_and_a_slow_one_is_not(self, conversation, pass_time):
        conversation.transport.unread_bytes = 5000
        conversation.connection.pause_writing()
        conversation.transport.unread_bytes = 4000
        pass_time(101)
        assert not conversation.transport.is_closed
        pass_time(101)
        assert conversation.transport.is_closed
