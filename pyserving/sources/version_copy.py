"""VersionCopy: the files of one remote version on the local disk, for as long as a loader needs them there."""

from __future__ import annotations

import errno
import hashlib
import logging
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from pyserving.errors import Cancelled, DataLoss, NotFound, PermissionDenied, ServingError, Unavailable
from pyserving.sources.download import Download
from pyserving.sources.fsspec_storage import FsspecStorage
from pyserving.sources.model_cache import CacheFolder, ModelCache, no_room
from pyserving.sources.snapshot import take_snapshot
from pyserving.sources.storage import FileStat
from pyserving.sources.tensorflow_storage import is_opened_by_tensorflow
from pyserving.types import AspiredVersion

_log = logging.getLogger(__name__)

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_MD5 = re.compile(r"[0-9a-f]{32}")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class FetchAttempt:
    """What the metrics want to know of a download that is over, well or not."""

    listings: int
    fetched_bytes: int


class VersionCopy:
    """`bring` and `remove` are called in threads, never at the same time; `cancel` on the loop."""

    def __init__(self, version: AspiredVersion, cache: ModelCache, storage: FsspecStorage) -> None:
        self._version = version
        self._cache = cache
        self._storage = storage
        self._folder: CacheFolder | None = None
        self._download: Download | None = None
        self._is_cancelled = False
        self._listings = 0
        self._attempts: deque[FetchAttempt] = deque()

    def bring(self) -> str:
        """The path of a whole copy, or the version's own where TensorFlow reads it itself.

        Raises the ServingError of what went wrong; then `remove`, and it may be called again.
        """
        if is_opened_by_tensorflow(self._version.path):
            return self._version.path
        try:
            return self._fetch()
        except OSError as error:
            raise self._serving_error(error) from None
        finally:
            fetched_bytes = 0 if self._download is None else self._download.fetched_bytes
            self._attempts.append(FetchAttempt(self._listings, fetched_bytes))
            self._download, self._listings = None, 0

    def cancel(self) -> None:
        """Nobody wants it any more: `bring` raises Cancelled soon, if it is under way."""
        self._is_cancelled = True  # first, or a download that is begun now would not hear of it
        if (download := self._download) is not None:
            download.cancel()

    def remove(self) -> None:
        """Free the disk. Removing twice is removing once."""
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def take_attempts(self) -> Iterator[FetchAttempt]:
        """The downloads that have ended since this was last asked."""
        while self._attempts:
            yield self._attempts.popleft()

    def _fetch(self) -> str:
        source, began = self._version.path, perf_counter()
        files = self._list()
        sizes = {name: file.size for name, file in files.items()}
        self._folder = self._cache.new_folder(sum(sizes.values()))
        draft = self._folder.path / "draft"
        draft.mkdir()
        self._run(Download(self._read, sizes, draft, partial(self._report, sum(sizes.values()))))
        if self._list() != files:
            raise Unavailable(f"The files of {source} changed while they were fetched")
        _check_contents(source, draft, files)
        path = draft.rename(draft.with_name(str(self._version.id.version)))
        mib, seconds = sum(sizes.values()) / _MIB, perf_counter() - began
        message = "Fetched servable version %s from %s: %d files, %.1f MiB in %.1f s"
        _log.info(message, self._version.id, source, len(sizes), mib, seconds)
        return str(path)

    def _list(self) -> Mapping[str, FileStat]:
        self._listings += 1
        snapshot = take_snapshot(self._version.path, self._storage)
        if snapshot.is_file:  # as TensorFlow has it of a file
            raise NotFound(
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {self._version.path}"
            )
        return snapshot.files

    def _run(self, download: Download) -> None:
        self._download = download
        if self._is_cancelled:
            download.cancel()
        download.run()

    def _read(self, name: str, start: int, end: int) -> bytes:
        return self._storage.read(f"{self._version.path}/{name}", start, end)

    def _report(self, total: int, fetched: int) -> None:
        message = "Fetching servable version %s from %s: %.1f of %.1f MiB"
        _log.info(message, self._version.id, self._version.path, fetched / _MIB, total / _MIB)

    def _serving_error(self, error: OSError) -> ServingError:
        if self._is_cancelled:
            return Cancelled("Fetching of servable cancelled")
        if error.errno in _DISK_FULL and self._folder is not None:
            return no_room(self._folder.path.parent, error.strerror or "the disk is full")
        kinds = {FileNotFoundError: NotFound, PermissionError: PermissionDenied}
        return kinds.get(type(error), Unavailable)(
            f"Could not fetch {error.filename or self._version.path}: {error.strerror or error}"
        )


def _check_contents(source: str, folder: Path, files: Mapping[str, FileStat]) -> None:
    """Against the MD5s that an object store gives as ETags of what was uploaded in one piece.

    Where it encrypts with keys of its own the ETags look the same and are none; then not one of them agrees.
    """
    agrees = {name: _md5(folder / name) == file.tag for name, file in files.items() if _MD5.fullmatch(file.tag)}
    wrong = [name for name, is_right in agrees.items() if not is_right]
    if wrong and any(agrees.values()):
        raise DataLoss(f"What was fetched of {source}/{wrong[0]} is not what its ETag says")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(_MIB):
            digest.update(data)
    return digest.hexdigest()
