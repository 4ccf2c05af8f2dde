"""An object store in memory: files by URI, folders that are mere prefixes, and trouble when a test wants it."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from pyserving.sources.storage import Entry, FileStat, walk_by_listing


class FakeStorage:
    can_be_watched = False

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, int]] = {}
        self._writes = 0
        self.trouble: dict[str, Exception] = {}
        """Base path to what listing it raises."""
        self.listings = 0
        self.hanging = 0
        """Calls that do not come back."""
        self.opened: list[str] = []
        self._gates: dict[str, threading.Event] = {}
        self._entered: dict[str, threading.Event] = {}

    def write(self, folder: str, files: Mapping[str, bytes], mtime_ns: int | None = None) -> None:
        """Without a time, each write gets one of its own."""
        for name, content in files.items():
            self._writes += 1
            self._files[f"{folder}/{name}"] = content, self._writes if mtime_ns is None else mtime_ns

    def remove(self, folder: str) -> None:
        self._files = {path: file for path, file in self._files.items() if not path.startswith(f"{folder}/")}

    def hang(self, *base_paths: str) -> None:
        """Whoever lists these waits."""
        for base_path in base_paths:
            self._gates[base_path], self._entered[base_path] = threading.Event(), threading.Event()

    async def entered(self, base_path: str) -> None:
        """Until somebody waits for that one."""
        await asyncio.get_running_loop().run_in_executor(None, self._entered[base_path].wait, 20)

    def release(self) -> None:
        for gate in self._gates.values():
            gate.set()
        self._gates = {}

    def list(self, path: str) -> list[str]:
        if (gate := self._gates.get(path)) is not None:
            self.hanging += 1
            self._entered[path].set()
            gate.wait(20)
            self.hanging -= 1
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

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        return walk_by_listing(self, path)

    def open(self, path: str) -> BinaryIO:
        self.opened.append(path)
        return io.BytesIO(self._files[path][0])
