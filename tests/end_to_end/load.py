"""A steady stream of requests from a thread, which remembers every answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

PER_SECOND = 50


class Load:
    """Sends `send()` fifty times a second, open loop, until its block is left; then every call has been answered.

    `send()` gives a gRPC future. `versions` are those that answered, in order and without repeats; `failures` the
    status of every call that failed.
    """

    def __init__(self, send: Callable[[], Any]) -> None:
        self._send = send
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._calls: list[Any] = []
        self.answered = 0
        self.versions: list[int] = []
        self.failures: Counter[str] = Counter()

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No new calls; those that are out are waited for."""
        self._stop.set()
        self._thread.join()
        for call in self._calls:
            with suppress(grpc.RpcError):  # counted where it landed
                call.result()
        with self._news:
            self._news.wait_for(lambda: self.answered + self.failures.total() == len(self._calls), timeout=60)

    @property
    def sent(self) -> int:
        return len(self._calls)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 120.0) -> None:
        """Until an answer makes `condition` true; a call that fails ends the wait."""
        with self._news:
            self._news.wait_for(lambda: condition() or bool(self.failures), timeout)
            assert condition(), (self.versions, self.failures, self.answered)

    def wait_for_answers(self, count: int) -> None:
        """Until so many more calls have been answered."""
        target = self.answered + count
        self.wait_until(lambda: self.answered >= target)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / PER_SECOND
            call = self._send()
            self._calls.append(call)
            call.add_done_callback(self._landed)

    def _landed(self, call: Any) -> None:
        with self._news:
            if call.code() is grpc.StatusCode.OK:
                self.answered += 1
                version = call.result().model_spec.version.value
                if not self.versions or self.versions[-1] != version:
                    self.versions.append(version)
            else:
                self.failures[f"{call.code().name}: {call.details()}"] += 1
            self._news.notify_all()
