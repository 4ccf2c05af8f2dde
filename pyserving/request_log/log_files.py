"""The TFRecord files of one filename_prefix: a new one when the last is full, the oldest gone when there are too many.

Everything here happens in one thread. A file is written under a name that ends in `.open`, whole records only, and
renamed when it is full; what a process that died left open is cut to its last whole record and renamed as well.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyserving.codec import tf_record
from pyserving.errors import DataLoss, ResourceExhausted
from pyserving.machine import lock_file

_log = logging.getLogger(__name__)

_OPEN = ".open"
_NAME = re.compile(r"-?(?P<time>\d{8}T\d{6})-[^/]+-\d+-(?P<number>\d+)\.tfrecord(?P<open>\.open)?")
"""What follows the prefix."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may lie on the disk for one prefix, and how it is cut into files."""

    max_file_bytes: int = 256 << 20
    max_file_seconds: float = 3600.0
    max_total_bytes: int = 4 << 30
    """Of all files of a prefix, those of other processes among them; at least one file's."""


class LogFiles:
    """Appends records to the newest file of a prefix."""

    def __init__(self, prefix: str, bounds: Bounds, clock: Callable[[], float] = time.time) -> None:
        """`prefix` is the absolute path that file names begin with; `clock` gives seconds since 1970."""
        self.prefix = prefix
        self._bounds = bounds
        self._clock = clock
        self._number = 0
        self._path = ""
        self._descriptor: int | None = None
        self._size = 0

    @property
    def num_opened(self) -> int:
        """Grows with each file that is begun."""
        return self._number

    def prepare(self) -> None:
        """Make the folder, and finish what processes that died have left. OSError when it is no place for files."""
        os.makedirs(os.path.dirname(self.prefix), exist_ok=True)
        if not os.access(os.path.dirname(self.prefix), os.W_OK | os.X_OK):
            raise PermissionError(f"{os.path.dirname(self.prefix)} cannot be written to")
        for path, name in self._files():
            if name["open"]:
                _finish_abandoned(path)

    def append(self, record: bytes) -> None:
        """Write a record, wholly or not at all.

        ResourceExhausted for one larger than a file may be; OSError for what the file system refuses.
        """
        frame = tf_record.framed(record)
        if len(frame) > self._bounds.max_file_bytes:
            raise ResourceExhausted(f"The record has {len(frame)} bytes, a log file {self._bounds.max_file_bytes}")
        if self._size + len(frame) > self._bounds.max_file_bytes:
            self.close()
        if self._descriptor is None:
            self._descriptor = self._open()
        try:
            _write(self._descriptor, frame)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(frame)

    def close(self) -> None:
        """Finish the file that is being written; the next record begins another."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor, self._size = self._descriptor, None, 0
        try:
            os.fsync(descriptor)
            os.rename(self._path, path := self._path.removesuffix(_OPEN))
        finally:
            os.close(descriptor)
        _log.info("Finished request log %s", path)

    def _open(self) -> int:
        self._make_room()
        path = self._new_path() + _OPEN
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        lock_file(descriptor)
        self._path = path
        return descriptor

    def _new_path(self) -> str:
        """A name that no file had before, though a process id and a second may come twice."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._clock()))
        start = f"{self.prefix}{'' if self.prefix.endswith('/') else '-'}{stamp}-{socket.gethostname()}-{os.getpid()}"
        while True:
            self._number += 1
            path = f"{start}-{self._number:06}.tfrecord"
            if not os.path.exists(path) and not os.path.exists(path + _OPEN):
                return path

    def _make_room(self) -> None:
        """For one more file: the oldest go, but not those that are being written."""
        sizes = {path: path.stat().st_size for path, _ in self._files()}
        total = sum(sizes.values())
        finished = [(name["time"], name["number"], path) for path, name in self._files() if not name["open"]]
        for *_, path in sorted(finished):
            if total <= self._bounds.max_total_bytes - self._bounds.max_file_bytes:
                return
            path.unlink(missing_ok=True)
            total -= sizes.get(path, 0)

    def _files(self) -> Iterator[tuple[Path, re.Match[str]]]:
        folder, start = os.path.split(self.prefix)
        for name in os.listdir(folder):
            if name.startswith(start) and (match := _NAME.fullmatch(name, len(start))):
                yield Path(folder, name), match


def _write(descriptor: int, frame: bytes) -> None:
    rest = memoryview(frame)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _finish_abandoned(path: Path) -> None:
    """Cut a file that nobody writes any more to its last whole record, and give it its final name."""
    with path.open("r+b") as file:
        if not path.stat().st_size or not lock_file(file.fileno()):
            return
        end = 0
        try:
            for record_end, _ in tf_record.records_with_ends(file):
                end = record_end
        except DataLoss as error:
            _log.warning("%s was being written when its server died: %s; what is before that is kept", path, error)
        file.truncate(end)
    if end:
        path.rename(str(path).removesuffix(_OPEN))
    else:
        path.unlink()
