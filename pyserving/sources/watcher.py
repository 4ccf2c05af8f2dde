"""Wakes a source when something happens around its base paths. Events are hints: what is true, a scan finds out.

Only the base paths themselves are watched, not what is below: a version that is being written is looked at again by
itself every quiet time, and each watch costs threads and, before watchdog 7, one of a user's 128 inotify instances.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from watchdog.events import (
    EVENT_TYPE_CREATED,
    EVENT_TYPE_DELETED,
    EVENT_TYPE_MOVED,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

_log = logging.getLogger(__name__)

# Reading files raises events as well; a version comes and goes by these three alone.
_EVENTS = {EVENT_TYPE_CREATED, EVENT_TYPE_DELETED, EVENT_TYPE_MOVED}
_ENOUGH_WATCHES = 32
_MOST_LINKS = 40


Folders: TypeAlias = dict[str, "set[str] | None"]
"""Real folder to the names in it that matter, None for all of them."""


def folders_to_watch(base_path: str) -> Folders:
    """What a base path, links resolved, hangs from.

    That is the folder itself, the folder of every symbolic link on the way to it, and for a missing one the parent in
    which it would appear.
    """
    folders: Folders = {}
    for link in _links(base_path):
        _add(folders, os.path.dirname(link), os.path.basename(link))
    target = os.path.realpath(base_path)
    if os.path.isdir(target):
        folders[target] = None
    elif os.path.isdir(os.path.dirname(target)):
        _add(folders, os.path.dirname(target), os.path.basename(target))
    return folders


def _links(path: str) -> Iterable[str]:
    """Every symbolic link that is passed on the way to `path`, its own folder resolved."""
    path = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        link = next((prefix for prefix in _prefixes(path) if os.path.islink(prefix)), None)
        if link is None:
            return
        yield link
        # All that comes before the first link is real, so joining and normalizing is resolving.
        target = os.path.join(os.path.dirname(link), os.readlink(link))
        path = os.path.normpath(target + path[len(link) :])


def _prefixes(path: str) -> Iterable[str]:
    """`/a/b` has `/a` and `/a/b`."""
    ends = [index for index, character in enumerate(path) if character == os.sep and index > 0]
    return (path[:end] for end in [*ends, len(path)])


def _merge(folders: Folders, more: Folders) -> None:
    for folder, names in more.items():
        if names is None:
            folders[folder] = None
        else:
            for name in names:
                _add(folders, folder, name)


def _add(folders: Folders, folder: str, name: str) -> None:
    names = folders.setdefault(folder, set())
    if names is not None:
        names.add(name)


@dataclass(frozen=True, slots=True)
class _Watched:
    watch: ObservedWatch
    identity: tuple[int, int] | None
    handler: _Handler
    names: set[str] | None


class Watcher:
    """Calls `wake` on the loop after something happened; once, however much happens until it is called.

    Made by the loop; `follow` and `close` are for threads, one at a time.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._told = False
        self._observer: BaseObserver | None = None
        self._watched: dict[str, _Watched] = {}
        self._gave_up = False

    def follow(self, base_paths: Iterable[Folders]) -> bool:
        """Watch the folders that base paths hang from, and nothing else; about 32, the others are left to the poll.

        Whether there are new ones among them: what happened there before has to be found by listing them.
        """
        if self._gave_up:
            return False
        wanted: Folders = {}
        for folders in base_paths:
            if len(wanted) >= _ENOUGH_WATCHES:
                break
            _merge(wanted, folders)
        try:
            return self._watch_exactly(wanted)
        except (OSError, RuntimeError) as error:  # no more watches, or no more threads
            self._gave_up = True
            _log.warning("Folders cannot be watched (%s); new versions are found by the poll alone", error)
            self.close()
            return False

    def close(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None
        self._watched = {}

    def _watch_exactly(self, wanted: Folders) -> bool:
        for folder, watched in list(self._watched.items()):
            # What is wanted no more is not asked after: it may lie in storage that does not answer.
            is_wanted = folder in wanted and watched.names == wanted[folder]
            if not is_wanted or watched.handler.lost or watched.identity != _identity(folder):
                self._started().unschedule(watched.watch)
                del self._watched[folder]
        has_new = False
        for folder, names in wanted.items():
            if folder in self._watched:
                continue
            identity = _identity(folder)
            handler = _Handler(folder, names, self._tell)
            try:
                watch = self._started().schedule(handler, folder)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # gone already, or not ours to watch: the next scan tries again
            self._watched[folder] = _Watched(watch, identity, handler, names)
            has_new = True
        return has_new

    def _started(self) -> BaseObserver:
        if self._observer is None:
            self._observer = Observer()
            self._observer.start()
        return self._observer

    def _tell(self) -> None:
        """In watchdog's thread."""
        if self._told:
            return
        self._told = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be woken
            self._loop.call_soon_threadsafe(self._be_told)

    def _be_told(self) -> None:
        self._told = False
        self._wake()


class _Handler(FileSystemEventHandler):
    def __init__(self, folder: str, names: set[str] | None, tell: Callable[[], None]) -> None:
        self._folder = folder
        self._names = names
        self._tell = tell
        self.lost = False
        """The folder was removed: no more events will come, not even when one of that name appears."""

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _EVENTS:
            return
        paths = [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]
        if self._folder in paths:
            self.lost = True
        if self.lost or self._names is None or any(os.path.basename(path) in self._names for path in paths):
            self._tell()


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino
