"""A coroutine begun at once: one that needs no waiting has its result without a task, at a tenth of the cost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

if sys.version_info >= (3, 12):

    def begin(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T | asyncio.Task[T]:
        """The result when there was nothing to wait for, else the task that goes on; or what the coroutine raises."""
        task = asyncio.Task(coroutine, loop=loop, eager_start=True)
        return task.result() if task.done() else task

else:

    def begin(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T | asyncio.Task[T]:
        """The result when there was nothing to wait for, else the task that goes on; or what the coroutine raises.

        Up to its first wait the coroutine runs outside of any task, so `asyncio.timeout` has no place there.
        """
        context = copy_context()
        try:
            awaited = context.run(coroutine.send, None)
        except StopIteration as stop:
            return cast("T", stop.value)
        return _task(Begun(coroutine, awaited), loop, context)


def _task(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, context: Context) -> asyncio.Task[T]:
    if sys.version_info >= (3, 11):
        return loop.create_task(coroutine, context=context)
    return context.run(loop.create_task, coroutine)


class Begun(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that was run up to its first wait, as a task wants it: it yields once more what it waits for."""

    __slots__ = ("_awaited", "_coroutine", "_has_yielded")

    def __init__(self, coroutine: Coroutine[Any, Any, T], awaited: Any) -> None:
        """`awaited`: what the coroutine's first `send` has given."""
        self._coroutine = coroutine
        self._awaited = awaited
        self._has_yielded = False

    def send(self, value: Any) -> Any:
        if self._has_yielded:
            return self._coroutine.send(value)
        self._has_yielded = True
        awaited, self._awaited = self._awaited, None
        return awaited

    def throw(self, *error: Any) -> Any:
        if not self._has_yielded:
            # Cancelled before the task has run: a task would have cancelled the future it waits for.
            self._has_yielded = True
            awaited, self._awaited = self._awaited, None
            if asyncio.isfuture(awaited):
                awaited.cancel()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        raise TypeError("a task runs it")
