"""How requests are sent off: so many at a time, or so many a second."""

from __future__ import annotations

import asyncio

from pyserving.commands.load import OK, Answer, Extent, Tally, closed_loop, open_loop


def nothing(amount: float) -> None:
    pass


class Sender:
    """Holds calls back until so many are in flight, then answers them all."""

    def __init__(self, together: int) -> None:
        self._together = together
        self._waiting: list[asyncio.Future[None]] = []
        self.sent: list[int] = []
        self.most_in_flight = 0

    async def __call__(self, number: int) -> Answer:
        self.sent.append(number)
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        self.most_in_flight = max(self.most_in_flight, len(self._waiting))
        if len(self._waiting) == self._together:
            for waiting in self._waiting:
                waiting.set_result(None)
            self._waiting.clear()
        await mine
        return Answer(OK)


async def test_a_closed_loop_keeps_so_many_calls_in_flight_and_no_more():
    send = Sender(together=3)
    tally = await closed_loop(send, 3, Extent(requests=9).numbers(nothing))
    assert (tally.calls, tally.failed, send.most_in_flight) == (9, 0, 3)
    assert sorted(send.sent) == list(range(9))
    assert tally.seconds > 0


async def test_an_open_loop_waits_for_no_answer():
    send = Sender(together=20)
    tally = await open_loop(send, 1e6, Extent(requests=20).numbers(nothing))
    assert (tally.calls, send.most_in_flight) == (20, 20)


async def test_an_open_loop_counts_from_when_a_request_was_due():
    async def send(number: int) -> Answer:
        return Answer(OK)

    # All but the first are due long before they can be sent.
    tally = await open_loop(send, 1e9, Extent(requests=200).numbers(nothing))
    times = tally.milliseconds[OK]
    assert times[-1] > times[0]


def test_requests_end_at_either_limit():
    assert list(Extent(requests=3).numbers(nothing)) == [0, 1, 2]
    assert list(Extent(seconds=0.0).numbers(nothing)) == []
    assert list(Extent(seconds=60.0, requests=2).numbers(nothing)) == [0, 1]


def test_progress_is_told_in_requests_or_else_in_seconds():
    told: list[float] = []
    list(Extent(requests=3).numbers(told.append))
    assert told == [1, 1, 1]
    told.clear()
    list(Extent(seconds=0.001).numbers(told.append))
    assert 0 <= sum(told) <= 0.002


def test_a_tally_keeps_statuses_apart_and_the_first_word_of_each():
    tally = Tally()
    tally.add(Answer(OK), 0.5)
    tally.add(Answer("NOT_FOUND", "no m"), 0.001)
    tally.add(Answer("NOT_FOUND", "no n"), 0.002)
    assert (tally.calls, tally.failed) == (3, 2)
    assert tally.messages["NOT_FOUND"] == "no m"
    assert tally.milliseconds["NOT_FOUND"].tolist() == [1.0, 2.0]
