"""Brings files to the local disk in pieces, several at a time; it can be called off at any moment."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pyserving.errors import Cancelled

_PIECE_BYTES = 2 << 20
"""The threads that serve feel it when larger ones are put together; smaller ones cost more work."""
_STREAMS = 4
"""Object stores give each of them a part of the line only."""
_SECONDS_BETWEEN_REPORTS = 5.0


class _Piece(NamedTuple):
    name: str
    start: int
    end: int


class Download:
    """One download. `run` is called once, in a thread that has time; `cancel` from anywhere."""

    def __init__(
        self,
        read: Callable[[str, int, int], bytes],
        sizes: Mapping[str, int],
        folder: Path,
        report: Callable[[int], None] = lambda fetched: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read(name, start, end)` gives that part of a file or raises; it is called in threads and may hang.

        `sizes` are those of the files by relative path. `report(bytes)` is called now and then with what has come.
        """
        self.fetched_bytes = 0
        self._read = read
        self._sizes = sizes
        self._folder = folder
        self._report = report
        self._clock = clock
        self._pieces = deque(piece for name, size in sizes.items() for piece in _pieces(name, size))
        """Those that no stream has taken up."""
        self._news: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
        """Of each piece its size, or what went wrong."""

    def run(self) -> None:
        """Raises Cancelled, or the first error of `read` or of the disk. A folder that is left half full is the
        caller's; so are threads that hang: they write nothing any more once it is gone."""
        self._make_files()
        missing = len(self._pieces)
        for number in range(min(_STREAMS, missing)):
            threading.Thread(target=self._stream, name=f"download-{number}", daemon=True).start()
        try:
            self._gather(missing)
        finally:
            self._pieces.clear()

    def cancel(self) -> None:
        """`run` raises Cancelled, without waiting for storage that does not answer."""
        self._news.put(Cancelled("Fetching of servable cancelled"))

    def _make_files(self) -> None:
        for name in self._sizes:
            if Path(name).as_posix() != name or Path(name).is_absolute():
                raise OSError(f"{name!r} cannot be the name of a file")
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def _gather(self, missing: int) -> None:
        due = self._clock() + _SECONDS_BETWEEN_REPORTS
        while missing:
            try:
                news = self._news.get(timeout=max(due - self._clock(), 0.0))
            except queue.Empty:
                news = None
            if isinstance(news, Exception):
                raise news
            if news is not None:
                missing -= 1
                self.fetched_bytes += news
            if self._clock() >= due:
                self._report(self.fetched_bytes)
                due = self._clock() + _SECONDS_BETWEEN_REPORTS

    def _stream(self) -> None:
        """In a thread of its own, until nothing is left to take up."""
        while True:
            try:
                piece = self._pieces.popleft()
            except IndexError:
                return
            try:
                data = self._read(*piece)
                with open(self._folder / piece.name, "r+b") as file:
                    file.seek(piece.start)
                    file.write(data)
            except Exception as error:  # raised where it is waited for
                self._news.put(error)
                return
            self._news.put(len(data))


def _pieces(name: str, size: int) -> list[_Piece]:
    return [_Piece(name, start, min(start + _PIECE_BYTES, size)) for start in range(0, size, _PIECE_BYTES)]
