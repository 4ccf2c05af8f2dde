"""When the event loop stays awake for the next request, and when it sleeps."""

from __future__ import annotations

import asyncio

import pytest

from pyserving.messages import HttpResponse
from pyserving.transports.admission import Admission
from pyserving.transports.busy_poll import BusyPoll
from pyserving.transports.http1 import HttpServer
from tests.http_conversation import error_response
from tests.transports.http2.peer import Service, connected, request, serving

MICROS = 1e-6
SHORT, LONG = 50 * MICROS, 500 * MICROS


class Requests:
    """Come and are answered; the clock stands still unless told to go on."""

    def __init__(self, seconds: float = 100 * MICROS) -> None:
        self.now = 1.0
        self.calls = 0
        self.rounds = 0
        self.busy_poll = BusyPoll(seconds, lambda: self.calls == 0, self._clock)

    def _clock(self) -> float:
        self.rounds += 1
        return self.now

    async def after(self, *pauses: float) -> None:
        """One after each pause, answered at once."""
        for pause in pauses:
            await asyncio.sleep(0)  # a round of the loop
            self.now += pause
            self.busy_poll.arrived()
            self.busy_poll.answered()

    async def is_awake(self) -> bool:
        """Whether somebody looks at the clock in each round of the loop."""
        looks = []
        for _ in range(5):
            before = self.rounds
            await asyncio.sleep(0)
            looks.append(self.rounds > before)
        assert len(set(looks[1:])) == 1
        return looks[-1]


@pytest.fixture
def requests():
    return Requests()


async def test_who_is_asked_now_and_then_sleeps(requests):
    await requests.after(*[LONG] * 50)
    assert not await requests.is_awake()


async def test_requests_that_follow_one_another_closely_find_it_awake(requests):
    await requests.after(*[SHORT] * 8)
    assert not await requests.is_awake()
    await requests.after(SHORT)
    assert await requests.is_awake()


async def test_it_is_awake_for_as_long_as_was_said(requests):
    await requests.after(*[SHORT] * 20)
    requests.now += 99 * MICROS
    assert await requests.is_awake()
    requests.now += 2 * MICROS
    assert not await requests.is_awake()


async def test_a_pause_that_a_sleeper_took_for_longer_was_short_all_the_same(requests):
    await requests.after(*[190 * MICROS] * 9)
    assert await requests.is_awake()


async def test_a_request_now_and_then_that_comes_late_is_forgiven(requests):
    await requests.after(*[SHORT] * 40)
    for _ in range(5):
        assert await requests.is_awake()
        requests.now += LONG
        assert not await requests.is_awake()
        await requests.after(LONG, *[SHORT] * 9)


async def test_it_sleeps_again_once_waiting_has_mostly_been_in_vain(requests):
    await requests.after(*[SHORT] * 40)
    awake = 0
    for _ in range(20):
        awake += await requests.is_awake()
        requests.now += LONG
        await requests.is_awake()
        await requests.after(LONG, SHORT)
    assert awake == 5


async def test_where_waiting_awake_keeps_requests_from_coming_it_is_hardly_ever_tried(requests):
    """As on a machine that has server and client share a processor."""
    awake = 0
    for _ in range(5000):
        if await requests.is_awake():
            awake += 1
            requests.now += LONG
            await requests.is_awake()
        await requests.after(SHORT)
    assert 5 <= awake <= 10


async def test_it_is_tried_as_soon_as_ever_once_it_has_paid(requests):
    await requests.after(*[SHORT] * 9)
    for _ in range(2):
        assert await requests.is_awake()
        requests.now += LONG
        assert not await requests.is_awake()
        await requests.after(*[SHORT] * 33)
    for _ in range(4):
        await requests.after(*[SHORT] * 40)
        requests.now += LONG
        await requests.is_awake()
    assert await requests.is_awake() is False
    await requests.after(*[SHORT] * 9)
    assert await requests.is_awake()


async def test_a_call_that_is_under_way_has_the_processor_for_itself(requests):
    await requests.after(*[SHORT] * 20)
    requests.calls = 1
    await requests.after(SHORT)
    assert not await requests.is_awake()
    requests.calls = 0
    await requests.after(SHORT)
    assert await requests.is_awake()


async def test_a_call_that_begins_meanwhile_ends_the_wait_and_is_no_failure(requests):
    await requests.after(*[SHORT] * 9)
    assert await requests.is_awake()
    requests.calls = 1
    requests.now += LONG
    assert not await requests.is_awake()
    requests.calls = 0
    await requests.after(SHORT)
    assert await requests.is_awake()


async def test_a_call_that_has_come_ends_the_wait(requests):
    await requests.after(*[SHORT] * 20)
    assert await requests.is_awake()
    requests.busy_poll.arrived()
    assert not await requests.is_awake()


async def test_what_comes_on_many_connections_at_once_tells_nothing(requests):
    await requests.after(*[2 * MICROS] * 100)
    assert not await requests.is_awake()


async def test_where_many_connections_share_a_turn_it_sleeps(requests):
    """There is more to do after each sleep, which costs less than to look for it one by one."""
    await requests.after(*[SHORT] * 40)
    assert await requests.is_awake()
    for _ in range(10):
        await requests.after(SHORT)
        for _ in range(10):
            requests.now += 20 * MICROS
            requests.busy_poll.arrived()
            requests.busy_poll.answered()
    assert not await requests.is_awake()


async def test_it_never_stays_awake_where_that_is_not_wanted():
    requests = Requests(0.0)
    await requests.after(*[SHORT] * 100)
    assert (await requests.is_awake(), requests.rounds) == (False, 0)


class Told(BusyPoll):
    """What transports have told, in its order."""

    def __init__(self):
        super().__init__(0.0, lambda: False)
        self.said: list[str] = []

    def arrived(self):
        self.said.append("arrived")

    def answered(self):
        self.said.append("answered")


async def test_grpc_tells_of_each_turn():
    busy_poll = Told()
    async with serving(Service(), busy_poll=busy_poll) as server, connected(server) as client:
        await client.sync()
        for stream_id in (1, 3):
            busy_poll.said.clear()
            client.send(request(stream_id, b"x"))
            await client.answer(stream_id)
            assert busy_poll.said == ["arrived", "answered"]


@pytest.mark.parametrize("path", ["/t.T/Echo", "/t.T/Hold"])
async def test_grpc_has_let_go_of_a_call_when_its_answer_goes(path):
    """Else nobody would stay awake after it."""
    admission, service, idle = Admission(10, 1 << 20), Service(), []

    class Asked(Told):
        def answered(self):
            idle.append(admission.is_idle())

    async with serving(service, admission, busy_poll=Asked()) as server, connected(server) as client:
        await client.sync()
        idle.clear()
        client.send(request(1, b"x", path))
        service.release.set()
        await client.answer(1)
        assert idle == [True]


async def test_grpc_tells_nothing_of_frames_that_are_no_requests():
    busy_poll = Told()
    async with serving(Service(), busy_poll=busy_poll) as server, connected(server) as client:
        await client.sync()
        assert "arrived" not in busy_poll.said


async def test_grpc_tells_of_an_answer_that_took_longer():
    busy_poll, service = Told(), Service()
    async with serving(service, busy_poll=busy_poll) as server, connected(server) as client:
        await client.sync()
        busy_poll.said.clear()
        client.send(request(1, b"x", "/t.T/Hold"))
        await service.started.wait()
        assert busy_poll.said == ["arrived"]
        service.release.set()
        await client.answer(1)
        assert busy_poll.said == ["arrived", "answered"]


async def test_http_tells_of_each_answer():
    async def page(request):
        return HttpResponse(200, b"x")

    busy_poll = Told()
    async with HttpServer(
        [page], "127.0.0.1", 0, error_response=error_response, admission=Admission(1, 1 << 30), busy_poll=busy_poll
    ) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\nx")
        writer.close()
        assert busy_poll.said == ["arrived", "answered"] * 2
