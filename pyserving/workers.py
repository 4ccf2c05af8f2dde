"""Run plain functions in threads and land their results on the event loop: the only way work leaves the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Job(Generic[_T]):
    """A function on its way through a thread. Awaiting it gives the function's result.

    Giving up on a job (cancelling whoever awaits it, or giving its future another outcome) keeps it from starting when
    it has not yet; one that runs is let run to its end, and its result is dropped.
    """

    __slots__ = ("_args", "_error", "_function", "_result", "future", "is_over", "is_started", "on_over", "share")

    def __init__(self, function: Callable[..., _T], args: tuple[Any, ...], future: asyncio.Future[_T]) -> None:
        self._function = function
        self._args = args
        self._result: _T | None = None
        self._error: Exception | None = None
        self.future = future
        self.is_started = False
        """A thread has taken it up. Set in that thread."""
        self.is_over = False
        """No thread is in it any more, nor will be. Set on the loop."""
        self.share: Share | None = None
        self.on_over: Callable[[], None] | None = None
        """Called on the loop once no thread is in the function any more, whether anybody still waits or not."""

    def __await__(self) -> Generator[Any, None, _T]:
        return self.future.__await__()

    def run(self) -> None:
        """In the thread."""
        if self.future.done():
            return
        self.is_started = True
        try:
            self._result = self._function(*self._args)
        except BaseException as error:  # the loop side raises it where the job is awaited
            self._error = _carriable(error)
            del self  # this frame stays with the traceback, and would tie the error to its own job

    def land(self) -> None:
        """On the loop."""
        self.is_over = True
        result, error = self._result, self._error
        del self._function, self._args, self._result, self._error  # a job that is kept keeps no array and no model
        if not self.future.done():
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)  # type: ignore[arg-type]  # a function that returned nothing gives None
        if self.on_over is not None:
            self.on_over()


def _carriable(error: BaseException) -> Exception:
    """A future refuses StopIteration, and SystemExit in a task ends the loop: a function's mistake must do neither."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


class _LookAgain:
    """Tells a thread that there may be a job after all."""


_LOOK_AGAIN = _LookAgain()
_Order: TypeAlias = Job[Any] | _LookAgain | None
"""None: come to an end."""


class Workers:
    """A few threads that run plain functions for one loop.

    Results gather in a deque and land together in one loop callback, so that a burst of short jobs costs one wake-up.
    The flag that says a landing is on its way is safe because of the GIL, as are single steps with deques and lists.
    """

    MAX_STAND_INS = 64

    def __init__(
        self, name: str, threads: int, *, max_stand_ins: int = MAX_STAND_INS, waits_at_close: bool = True
    ) -> None:
        """`waits_at_close` lets what was submitted finish when they close: not so where it only reads and may hang."""
        if threads < 1:
            raise ValueError(f"Workers {name!r} need at least one thread; was {threads}")
        self.name = name
        self._max_stand_ins = max_stand_ins
        self._waits_at_close = waits_at_close
        self._jobs: deque[Job[Any] | None] = deque()
        """That no thread was free for. None ends the thread that takes it."""
        self._free: list[SimpleQueue[_Order]] = []
        """Of threads that wait, each for what is put there; the one that was at work last comes last."""
        self._over: deque[Job[Any]] = deque()
        self._landing = False
        self._open = False
        self._unfinished = 0
        self._stand_ins = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(threads)]

    async def __aenter__(self) -> Workers:
        self._loop = asyncio.get_running_loop()
        self._open = True
        for thread in self._threads:
            thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let what was submitted finish, unless nobody is to wait for it; then end the threads."""
        self._open = False
        if self._waits_at_close:
            await self.idle()
        for _ in range(len(self._threads) + self._stand_ins):
            self._hand_out(None)

    def submit(self, function: Callable[..., _T], *args: Any) -> Job[_T]:
        """Queue `function(*args)` for a thread. Call on the loop."""
        job = Job(function, args, asyncio.get_running_loop().create_future())
        self.enqueue(job)
        return job

    def enqueue(self, job: Job[Any]) -> None:
        """Queue a job that was made before."""
        if not self._open:
            raise RuntimeError(f"Workers {self.name!r} are closed")
        self._unfinished += 1
        self._idle.clear()
        self._hand_out(job)

    def add_stand_in(self) -> bool:
        """One more thread, in the place of one that does not come back; False when there are enough already."""
        if self._stand_ins >= self._max_stand_ins:
            return False
        self._stand_ins += 1
        threading.Thread(target=self._work, name=f"{self.name}-stand-in-{self._stand_ins}", daemon=True).start()
        return True

    def remove_stand_in(self) -> None:
        """The thread came back after all; one of them goes."""
        self._stand_ins -= 1
        self._hand_out(None)

    async def idle(self) -> None:
        """Returns when no job is left."""
        await self._idle.wait()

    @property
    def unfinished(self) -> int:
        """Jobs submitted and not over yet."""
        return self._unfinished

    @property
    def threads(self) -> int:
        """Jobs that can run at once."""
        return len(self._threads)

    def _hand_out(self, job: Job[Any] | None) -> None:
        """To the thread that was at work last: what it needs is still at hand for its processor. On the loop."""
        if not self._jobs and (free := self._free_thread()) is not None:
            free.put(job)
        else:
            self._jobs.append(job)
            self._wake_one()

    def _wake_one(self) -> None:
        """Whoever adds a job or a free thread calls this afterwards, as the other may have come just before."""
        if self._jobs and (free := self._free_thread()) is not None:
            free.put(_LOOK_AGAIN)

    def _free_thread(self) -> SimpleQueue[_Order] | None:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _work(self) -> None:
        own: SimpleQueue[_Order] = SimpleQueue()
        while (job := self._next(own)) is not None:
            job.run()
            self._over.append(job)
            if not self._landing:
                self._landing = True
                try:
                    self._loop.call_soon_threadsafe(self._land)
                except RuntimeError:  # the loop has gone: the process is on its way out and nobody waits
                    return
            del job  # while the thread waits for the next one, this one's result is not its to hold

    def _next(self, own: SimpleQueue[_Order]) -> Job[Any] | None:
        """For a thread that has nothing to do."""
        while True:
            try:
                return self._jobs.popleft()
            except IndexError:
                self._free.append(own)
                self._wake_one()
            order = own.get()
            if not isinstance(order, _LookAgain):
                return order

    def _land(self) -> None:
        self._landing = False
        while self._over:
            job = self._over.popleft()
            self._unfinished -= 1
            try:
                job.land()
            except Exception:  # one job's observer must not keep the others from landing
                _log.exception("A result could not be handed over")
            if job.share is not None:
                job.share.over(job)
        if not self._unfinished:
            self._idle.set()


class Share:
    """One owner's part of some Workers: `limit` jobs at once, so that slow ones leave threads to other owners.

    What exceeds the limit waits here. A job that nobody waits for any more and a thread is still in does not count:
    a thread cannot be stopped, so another stands in for it until it comes back.
    """

    def __init__(self, workers: Workers, limit: int) -> None:
        self._workers = workers
        self._limit = limit
        self._running = 0
        self._waiting: dict[Job[Any], None] = {}  # in order; a dict, so that one that is given up leaves at once
        self._given_up: set[Job[Any]] = set()

    @property
    def given_up(self) -> int:
        """Jobs that nobody waits for and that threads are still in."""
        return len(self._given_up)

    def submit(self, function: Callable[..., _T], *args: Any) -> Job[_T]:
        """Queue `function(*args)`. Call on the loop."""
        job = Job(function, args, asyncio.get_running_loop().create_future())
        job.share = self
        if self._running < self._limit:
            self._start(job)
        else:
            self._waiting[job] = None
        return job

    def give_up(self, job: Job[Any]) -> None:
        """Nobody waits for `job` any more; its future is settled."""
        if job in self._waiting:
            del self._waiting[job]
            job.land()
        elif job.is_started and not job.is_over and self._workers.add_stand_in():
            self._given_up.add(job)
            self._next()

    def over(self, job: Job[Any]) -> None:
        """The job has landed."""
        if job in self._given_up:
            self._given_up.remove(job)
            self._workers.remove_stand_in()
        else:
            self._next()

    def _start(self, job: Job[Any]) -> None:
        self._running += 1
        self._workers.enqueue(job)

    def _next(self) -> None:
        self._running -= 1
        if self._waiting:
            job = next(iter(self._waiting))
            del self._waiting[job]
            self._start(job)
