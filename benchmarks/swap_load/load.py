"""Predict requests, evenly spaced whatever becomes of the answers, or as many as sixteen callers can make."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc

DEADLINE_SECONDS = 60.0
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclass
class Answer:
    due: float
    seconds: float
    status: str


class Load:
    """Sends a request every `interval` seconds, whatever becomes of the answers, until its block is left."""

    def __init__(self, channel: grpc.aio.Channel, body: bytes, per_second: float) -> None:
        self._call = predict(channel)
        self._body = body
        self._interval = 1 / per_second
        self._pending: set[asyncio.Task[None]] = set()
        self.answers: list[Answer] = []

    async def __aenter__(self) -> Load:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sending.cancel()
        await asyncio.gather(*self._pending)

    async def _send(self) -> None:
        due = time.monotonic()
        while True:
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._ask(due))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
            due += self._interval

    async def _ask(self, due: float) -> None:
        try:
            await self._call(self._body, timeout=DEADLINE_SECONDS)
            status = "OK"
        except grpc.aio.AioRpcError as error:
            status = f"{error.code().name}: {error.details()}"
        self.answers.append(Answer(due, time.monotonic() - due, status))


def predict(channel: grpc.aio.Channel) -> Callable[..., Awaitable[bytes]]:
    return channel.unary_unary(PREDICT)  # type: ignore[no-any-return]


async def capacity(channel: grpc.aio.Channel, body: bytes, seconds: float) -> float:
    """Requests per second in a closed loop of sixteen, the better of two tries after a first one to warm up."""
    call = predict(channel)

    async def round(seconds: float) -> float:
        began, count = time.monotonic(), 0

        async def caller() -> None:
            nonlocal count
            while time.monotonic() - began < seconds:
                await call(body, timeout=DEADLINE_SECONDS)
                count += 1

        await asyncio.gather(*(caller() for _ in range(16)))
        return count / (time.monotonic() - began)

    await round(seconds)
    return max(await round(seconds), await round(seconds))
