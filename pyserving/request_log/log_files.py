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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyserving.codec import tf_record
from pyserving.errors import DataLoss, ResourceExhausted
from pyserving.machine import lock_file

_log = logging.getLogger(__name__)

_OPEN = ".open"
_NAME = re.compile(r"(?P<time>\d{8}T\d{6})-[^/]+-\d+-(?P<number>\d+)\.tfrecord(?P<open>\.open)?")
"""What follows the prefix and its dash."""


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
        self._folder, start = os.path.split(prefix)
        self._start = f"{start}-" if start else ""
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
        os.makedirs(self._folder, exist_ok=True)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{self._folder} cannot be written to")
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
        if self._size + len(frame) > self._bounds.max_file_bytes or not self._is_in_place():
            self.close()
        if self._descriptor is None:
            self._descriptor = self._open()
        try:
            _write(self._descriptor, frame)
        except OSError:
            self._take_back(self._descriptor)
            raise
        self._size += len(frame)

    def close(self) -> None:
        """Finish the file that is being written; the next record begins another.

        One that cannot be finished is let go of and told in the log: it is no reason to lose what comes next.
        """
        if self._descriptor is None:
            return
        descriptor, self._descriptor, self._size = self._descriptor, None, 0
        path = self._path.removesuffix(_OPEN)
        try:
            with open(descriptor, "ab", buffering=0):
                os.fsync(descriptor)
                os.rename(self._path, path)
        except OSError as error:
            _log.error("A log file of %s could not be finished: %s", self.prefix, error)
        else:
            _log.info("Finished request log %s", path)

    def _is_in_place(self) -> bool:
        """Nobody has removed the file that is being written, or moved it away, alone or with its folder."""
        if self._descriptor is None:
            return True
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except OSError:
            return False

    def _take_back(self, descriptor: int) -> None:
        """What was written of a record. Behind a part of one nothing could be read, so that file is done."""
        try:
            os.ftruncate(descriptor, self._size)
        except OSError:
            self.close()

    def _open(self) -> int:
        os.makedirs(self._folder, exist_ok=True)  # again, should somebody have cleared it away
        self._make_room()
        while True:
            path = self._new_path() + _OPEN
            with suppress(FileExistsError):  # of a process with this one's id and host name, in another container
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
                break
        lock_file(descriptor)
        self._path = path
        return descriptor

    def _new_path(self) -> str:
        """A name that no file had before, though a process id and a second may come twice."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._clock()))
        start = os.path.join(self._folder, f"{self._start}{stamp}-{socket.gethostname()}-{os.getpid()}")
        while True:
            self._number += 1
            path = f"{start}-{self._number:06}.tfrecord"
            if not os.path.exists(path) and not os.path.exists(path + _OPEN):
                return path

    def _make_room(self) -> None:
        """For one more file: the oldest go, but not those that are being written."""
        found = list(self._files())
        sizes = {path: _size_of(path) for path, _ in found}
        total = sum(sizes.values())
        finished = [(name["time"], name["number"], path) for path, name in found if not name["open"]]
        for *_, path in sorted(finished):
            if total <= self._bounds.max_total_bytes - self._bounds.max_file_bytes:
                return
            path.unlink(missing_ok=True)
            total -= sizes[path]

    def _files(self) -> Iterator[tuple[Path, re.Match[str]]]:
        for name in os.listdir(self._folder):
            if name.startswith(self._start) and (match := _NAME.fullmatch(name, len(self._start))):
                yield Path(self._folder, name), match


def _size_of(path: Path) -> int:
    """0 for a file that another server has renamed or removed since it was listed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _write(descriptor: int, frame: bytes) -> None:
    rest = memoryview(frame)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _finish_abandoned(path: Path) -> None:
    """Finish a file that nobody writes any more. One that this server cannot finish keeps it from no other."""
    try:
        _cut_to_whole_records(path)
    except FileNotFoundError:  # another server was quicker
        pass
    except OSError as error:
        _log.warning("%s was being written when its server died, and cannot be finished: %s", path, error.strerror)


def _cut_to_whole_records(path: Path) -> None:
    """And give it its final name, if there are any."""
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
