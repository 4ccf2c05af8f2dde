"""An object store in memory: files by URI, folders that are mere prefixes, and trouble when a test wants it."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import BinaryIO

from pyserving.sources.storage import Entry, FileStat


class FakeStorage:
    can_be_watched = False

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, int]] = {}
        self._writes = 0
        self.trouble: dict[str, OSError] = {}
        """Base path to what listing it raises."""
        self.gates: dict[str, threading.Event] = {}
        """Base path to what listing it waits for."""
        self.listings = 0

    def write(self, folder: str, files: Mapping[str, bytes], mtime_ns: int | None = None) -> None:
        """Without a time, each write gets one of its own."""
        for name, content in files.items():
            self._writes += 1
            self._files[f"{folder}/{name}"] = content, self._writes if mtime_ns is None else mtime_ns

    def remove(self, folder: str) -> None:
        self._files = {path: file for path, file in self._files.items() if not path.startswith(f"{folder}/")}

    def list(self, path: str) -> list[str]:
        if path in self.gates:
            self.gates[path].wait(20)
        if path in self.trouble:
            raise self.trouble[path]
        self.listings += 1
        names = {file[len(path) + 1 :].partition("/")[0] for file in self._files if file.startswith(f"{path}/")}
        if not names:
            raise FileNotFoundError(2, "Not found", path)
        return sorted(names)

    def stat(self, path: str) -> Entry:
        if path in self._files:
            content, mtime_ns = self._files[path]
            return Entry(False, FileStat(len(content), mtime_ns))
        if any(file.startswith(f"{path}/") for file in self._files):
            return Entry(True, FileStat(0, 0))
        raise FileNotFoundError(2, "Not found", path)

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self._files[path][0])
