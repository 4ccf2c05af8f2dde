"""What a source needs of the storage that versions lie in: to list, to stat and to read; the local disk gives it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

_FILE_SCHEME = "file://"
_NOT_CONTENT = "__pycache__"
"""Written beside a `model.py` by running it."""


class FileStat(NamedTuple):
    """Zero stands for what a storage does not tell."""

    size: int
    mtime_ns: int
    ctime_ns: int = 0
    inode: int = 0
    tag: str = ""
    """What an object store calls this very content: its ETag."""


class Entry(NamedTuple):
    """What a path leads to."""

    is_folder: bool
    stat: FileStat
    identity: tuple[int, int] | None = None
    """The same for two paths to the same thing; None: the storage has no links."""
    is_special: bool = False
    """A pipe, a socket or a device: opening it may never come back."""


class Storage(Protocol):
    """Called in scanning threads. Every method raises OSError, FileNotFoundError where there is nothing."""

    @property
    def can_be_watched(self) -> bool:
        """Whether the operating system tells of changes."""

    def list(self, path: str) -> list[str]:
        """Names of what is in a folder."""

    def stat(self, path: str) -> Entry:
        """Links are followed."""

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        """What is at `path`, named "", and everything below by relative path, the shallowest first.

        Only what can be content of a version (see `is_content`). What vanishes meanwhile is left out.
        """

    def open(self, path: str) -> BinaryIO:
        """To read from anywhere in the file. Nothing but a regular file is opened."""


class LocalStorage:
    """What the operating system calls files."""

    can_be_watched = True

    def list(self, path: str) -> list[str]:
        return os.listdir(path)

    def stat(self, path: str) -> Entry:
        found = os.stat(path)
        return Entry(
            stat.S_ISDIR(found.st_mode),
            FileStat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino),
            (found.st_dev, found.st_ino),
            is_special=not stat.S_ISDIR(found.st_mode) and not stat.S_ISREG(found.st_mode),
        )

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        return walk_by_listing(self, path)

    def open(self, path: str) -> BinaryIO:
        if self.stat(path).is_special:
            raise OSError(errno.EINVAL, "not a regular file", path)
        return open(path, "rb", opener=_open_without_waiting)


def _open_without_waiting(path: str, flags: int) -> int:
    """Should a pipe have come in the file's place a moment ago."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


LOCAL = LocalStorage()


def walk_by_listing(storage: Storage, path: str) -> Iterator[tuple[str, Entry]]:
    """`Storage.walk`, folder by folder. Links are followed, dangling ones are left out, and a folder is seen once."""
    root = storage.stat(path)
    yield "", root
    visited = {root.identity}
    waiting = [""] if root.is_folder else []
    for folder in waiting:
        for name, child in _children(storage, path, folder):
            if child.is_folder:
                if child.identity is not None and child.identity in visited:
                    continue
                visited.add(child.identity)
                waiting.append(name)
            yield name, child


def is_content(name: str) -> bool:
    """Not so for names beginning with two dots: the folders Kubernetes swaps behind links, seen through those links
    anyway."""
    return not name.startswith("..") and name != _NOT_CONTENT


def _children(storage: Storage, path: str, folder: str) -> Iterator[tuple[str, Entry]]:
    try:
        names = sorted(storage.list(os.path.join(path, folder) if folder else path))
    except FileNotFoundError:
        if not folder:
            raise
        return
    for name in filter(is_content, names):
        child = os.path.join(folder, name)
        try:
            yield child, storage.stat(os.path.join(path, child))
        except FileNotFoundError:
            continue


def local_path(base_path: str) -> str:
    """A base path as the operating system takes it; a URI of another scheme than `file` stays as it is."""
    return base_path.removeprefix(_FILE_SCHEME)


def is_remote(base_path: str) -> bool:
    return "://" in local_path(base_path)
