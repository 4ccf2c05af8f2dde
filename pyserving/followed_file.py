"""A file that is read again and again while the server runs, so that what is new in it counts without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from pyserving.errors import ServingError
from pyserving.workers import Workers

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Problem:
    message: str


class FollowedFile(Generic[_T]):
    """Looks at the file every few seconds while the context is open, and has what is new in it taken.

    Files are often written in steps: a change counts when two looks have seen the same. One that cannot be read or
    taken is told once, and everything stays as it was.
    """

    def __init__(
        self,
        path: str,
        first: _T,
        *,
        read: Callable[[str], _T],
        take: Callable[[_T], Awaitable[None]],
        tell: Callable[[str], None],
        reading: Workers,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """`first` is what was read before. `read`, in a thread, and `take` raise ServingError; `tell` hears of each
        change what was wrong with it, or nothing when all was well."""
        self._path = path
        self._read = read
        self._take = take
        self._tell = tell
        self._reading = reading
        self._look_seconds = look_seconds
        self._seen: _T | _Problem = first
        self._settled: _T | _Problem = first
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FollowedFile[_T]:
        self._looking = asyncio.create_task(self._look_again_and_again())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def look(self) -> None:
        before, found = self._seen, await self._found()
        self._seen = found
        if found != before or found == self._settled:
            return
        problem = found.message if isinstance(found, _Problem) else await self._taken(found)
        self._settled = found  # and not before: what could not be taken for reasons of the moment is tried again
        self._tell(problem)

    async def _found(self) -> _T | _Problem:
        try:
            return await self._reading.submit(self._read, self._path)
        except ServingError as error:
            return _Problem(error.message)

    async def _taken(self, found: _T) -> str:
        """What was wrong."""
        try:
            await self._take(found)
        except ServingError as error:
            return error.message
        return ""

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                await self.look()
            except Exception:  # one look gone wrong must not be the last one
                _log.exception("Following %s failed", self._path)
