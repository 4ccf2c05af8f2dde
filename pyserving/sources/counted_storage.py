"""CountedStorage: a storage that counts how often it is listed, which object stores charge for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from pyserving.sources.storage import Entry, Storage


class CountedStorage:
    """Belongs to one scan, in one thread."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.can_be_watched = storage.can_be_watched
        self.listings = 0
        """A folder with everything below it, as `walk` gives it, is one."""

    def list(self, path: str) -> list[str]:
        self.listings += 1
        return self._storage.list(path)

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        self.listings += 1
        return self._storage.walk(path)

    def stat(self, path: str) -> Entry:
        return self._storage.stat(path)

    def open(self, path: str) -> BinaryIO:
        return self._storage.open(path)
