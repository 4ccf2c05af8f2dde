"""Calls of a log on their way to servers again: in which pace, how many at a time, and what came of each."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from pyserving.client import Client
from pyserving.errors import ServingError
from pyserving.request_log.comparison import Tolerance, differences
from pyserving.request_log.reader import LoggedCall

_AHEAD = 4
"""Calls that wait for a thread, for each thread: an answer that takes long must not keep the others idle."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one call."""

    call: LoggedCall
    micros: tuple[float, ...]
    """Of each server that answered."""
    failure: str = ""
    differences: Sequence[str] = ()
    is_compared: bool = True

    @property
    def is_bad(self) -> bool:
        return bool(self.failure or self.differences)

    @property
    def text(self) -> str:
        return f"{self.call.place} {self.call.api}: {self.failure or '; '.join(self.differences)}"


@dataclass(frozen=True, slots=True)
class _Answer:
    message: Message | None
    error: ServingError | None
    micros: float


@dataclass(frozen=True, slots=True)
class Replay:
    """Sends a call to one server or two, in any thread."""

    clients: Sequence[Client]
    tolerance: Tolerance
    asks_latest: bool = False
    model: str | None = None

    def __call__(self, call: LoggedCall) -> Result:
        body = self._request(call)
        answers = [_ask(client, call, body) for client in self.clients]
        micros = tuple(answer.micros for answer in answers)
        got, *others = answers
        if others and got.error is not None and others[0].error is not None:
            codes = [answer.error.code.name for answer in answers if answer.error is not None]
            return Result(call, micros, "" if len({*codes}) == 1 else f"fails with {' and '.join(codes)}")
        for answer, client in zip(answers, ("the target", "the other server"), strict=False):
            if answer.error is not None:
                return Result(call, micros, f"{client} answers {answer.error.status}")
        wanted = others[0].message if others else call.response
        if wanted is None or got.message is None:
            return Result(call, micros, is_compared=False)
        return Result(call, micros, differences=differences(wanted, got.message, self.tolerance))

    def _request(self, call: LoggedCall) -> bytes:
        for spec in call.model_specs:
            if self.asks_latest:
                spec.ClearField("version_choice")
            if self.model is not None:
                spec.name = self.model
        body: bytes = call.request.SerializeToString()
        return body


def _ask(client: Client, call: LoggedCall, body: bytes) -> _Answer:
    began = time.perf_counter()
    try:
        answer = client.call(call.path, body)
    except ServingError as error:
        return _Answer(None, error, (time.perf_counter() - began) * 1e6)
    micros = (time.perf_counter() - began) * 1e6
    return _Answer(call.response_class.FromString(answer), None, micros)


def paced(
    calls: Iterable[LoggedCall],
    speed: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[LoggedCall]:
    """Each call when its time has come, `speed` times as fast as the log, whose times are whole seconds. 0: at once."""
    began, first = clock(), None
    for call in calls:
        seconds = call.log.log_metadata.timestamp_secs
        first = seconds if first is None else first
        if speed > 0 and (wait := began + (seconds - first) / speed - clock()) > 0:
            sleep(wait)
        yield call


def in_order(function: Callable[[_T], _R], items: Iterable[_T], threads: int) -> Iterator[_R]:
    """What `function` makes of each item, so many of them at a time."""
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[_R]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            while pending and (len(pending) >= _AHEAD * threads or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
