"""What a source needs of the storage that versions lie in: to list, to stat and to read; the local disk gives it."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO, NamedTuple, Protocol

_FILE_SCHEME = "file://"


class FileStat(NamedTuple):
    """Zero stands for what a storage does not tell."""

    size: int
    mtime_ns: int
    ctime_ns: int = 0
    inode: int = 0


class Entry(NamedTuple):
    """What a path leads to."""

    is_folder: bool
    stat: FileStat
    identity: tuple[int, int] | None = None
    """The same for two paths to the same thing; None: the storage has no links."""


class Storage(Protocol):
    """Called in scanning threads. Every method raises OSError, FileNotFoundError where there is nothing."""

    @property
    def can_be_watched(self) -> bool:
        """Whether the operating system tells of changes."""

    def list(self, path: str) -> list[str]:
        """Names of what is in a folder."""

    def stat(self, path: str) -> Entry:
        """Links are followed."""

    def open(self, path: str) -> BinaryIO:
        """To read from anywhere in the file."""


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
        )

    def open(self, path: str) -> BinaryIO:
        return open(path, "rb")


LOCAL = LocalStorage()


def local_path(base_path: str) -> str:
    """A base path as the operating system takes it; a URI of another scheme than `file` stays as it is."""
    return base_path.removeprefix(_FILE_SCHEME)


def is_remote(base_path: str) -> bool:
    return "://" in local_path(base_path)
