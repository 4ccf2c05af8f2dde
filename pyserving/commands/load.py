"""Requests sent one after the other or at a steady rate, and a tally of what came of them."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from pyserving.commands.progress import Advance


class Answer(NamedTuple):
    """Of one call."""

    status: str
    """`OK` or the status of an error, by which answers are counted apart."""
    message: str = ""
    """What the server says of an error."""


OK = "OK"
Send = Callable[[int], Awaitable[Answer]]
"""Sends the request of a number, and waits for its answer. Raises nothing that a server can bring about."""


@dataclass(slots=True)
class Tally:
    """Counts answers, and keeps how long each took."""

    milliseconds: dict[str, array[float]] = field(default_factory=dict)
    """By status."""
    messages: dict[str, str] = field(default_factory=dict)
    """The first of each status."""
    seconds: float = 0.0
    """From the first request to the last answer."""

    @property
    def calls(self) -> int:
        return sum(map(len, self.milliseconds.values()))

    @property
    def failed(self) -> int:
        return self.calls - len(self.milliseconds.get(OK, ()))

    def add(self, answer: Answer, seconds: float) -> None:
        times = self.milliseconds.get(answer.status)
        if times is None:
            times = self.milliseconds[answer.status] = array("d")
            self.messages[answer.status] = answer.message
        times.append(1000 * seconds)


@dataclass(frozen=True, slots=True)
class Extent:
    """How long requests are sent: until either limit is reached."""

    seconds: float | None = None
    requests: int | None = None

    def numbers(self, advance: Advance) -> Iterator[int]:
        """Of the requests, as long as another may be sent; `advance` is told of requests, or else of seconds."""
        began = last = time.perf_counter()
        for number in count() if self.requests is None else range(self.requests):
            now = time.perf_counter()
            if self.seconds is not None and now - began >= self.seconds:
                return
            yield number
            advance(now - last if self.requests is None else 1)
            last = now


async def closed_loop(send: Send, concurrency: int, numbers: Iterator[int]) -> Tally:
    """So many requests are in flight at any time; the next one goes out when one has been answered."""
    tally, began = Tally(), time.perf_counter()

    async def caller() -> None:
        for number in numbers:
            sent = time.perf_counter()
            tally.add(await send(number), time.perf_counter() - sent)

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    tally.seconds = time.perf_counter() - began
    return tally


async def open_loop(send: Send, rate: float, numbers: Iterator[int]) -> Tally:
    """So many requests go out each second, whatever becomes of them. Times count from when each was due."""
    tally, began = Tally(), time.perf_counter()
    calls: set[asyncio.Task[None]] = set()

    async def call(number: int, due: float) -> None:
        tally.add(await send(number), time.perf_counter() - due)

    for number in numbers:
        due = began + number / rate
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        task = asyncio.create_task(call(number, due))
        calls.add(task)
        task.add_done_callback(calls.discard)
    await asyncio.gather(*calls)
    tally.seconds = time.perf_counter() - began
    return tally
