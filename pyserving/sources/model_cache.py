"""Folders on the local disk for copies of remote versions, none of which outlives the process that uses it for long.

Beside each folder lies a file that its owner has locked: what nobody has locked was left by a process that died, and is
removed when somebody next wants a folder. So any number of processes may share one place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

from pyserving.errors import FailedPrecondition, ResourceExhausted
from pyserving.machine import lock_file

_log = logging.getLogger(__name__)

_PREFIX = "pyserving-"
_LOCK = ".lock"


class CacheFolder:
    """An empty folder to begin with, readable for nobody else, and its lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def remove(self) -> None:
        """With all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.exists():
            _log.warning("%s cannot be removed; another server that uses its folder will try", self.path)
        else:
            _lock_path(self.path).unlink(missing_ok=True)
        os.close(self._descriptor)


class ModelCache:
    """Where copies lie. Its methods run in loading threads; all that they share is on the disk."""

    def __init__(self, path: str = "") -> None:
        """`path` need not be there yet; empty: a folder of this user's among the system's temporary ones."""
        self._path = path

    def new_folder(self, needed_bytes: int) -> CacheFolder:
        """Raises ResourceExhausted when there is no room for so much, OSError when no folder can be made."""
        place = self._place()
        _remove_abandoned(place)
        free = shutil.disk_usage(place).free
        if free < needed_bytes:
            raise no_room(place, f"{needed_bytes} bytes are needed, {free} are free")
        return _new_folder(place)

    def _place(self) -> Path:
        if self._path:
            os.makedirs(self._path, exist_ok=True)
            return Path(self._path)
        return _own_temporary_folder()


def no_room(place: Path, reason: str) -> ResourceExhausted:
    return ResourceExhausted(f"No room for a copy in {place}: {reason}. --model_cache_dir names another place")


def _own_temporary_folder() -> Path:
    """Anybody may put a folder of that name where all users write; what is in it is going to be run."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    place = Path(tempfile.gettempdir(), f"pyserving-models-{user}")
    with contextlib.suppress(FileExistsError):
        place.mkdir(0o700)
    found = place.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and (os.name == "nt" or (found.st_uid == user and not found.st_mode & 0o022))
    if not is_ours:
        raise FailedPrecondition(f"{place} is not this user's own folder; --model_cache_dir names another place")
    return place


def _new_folder(place: Path) -> CacheFolder:
    while True:
        descriptor, lock = tempfile.mkstemp(_LOCK, _PREFIX, place)
        lock_file(descriptor, waits=True)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # another process came between and took it for abandoned
    path = Path(lock.removesuffix(_LOCK))
    path.mkdir(0o700)
    return CacheFolder(path, descriptor)


def _remove_abandoned(place: Path) -> None:
    for lock in place.glob(f"{_PREFIX}*{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except OSError:  # it went meanwhile, or is another user's
            continue
        try:
            if lock_file(descriptor):
                _remove_left(Path(str(lock).removesuffix(_LOCK)))
        finally:
            os.close(descriptor)


def _remove_left(path: Path) -> None:
    if path.exists():
        _log.info("Removing %s, the copy of a model that a server left when it died", path)
        shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        _lock_path(path).unlink(missing_ok=True)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + _LOCK)
