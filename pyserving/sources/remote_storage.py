"""Storage behind a URI: TensorFlow's file systems for what it opens itself, fsspec's for everything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from pyserving.sources.fsspec_storage import FsspecStorage
from pyserving.sources.storage import Entry, Storage
from pyserving.sources.tensorflow_storage import TensorFlowStorage, is_opened_by_tensorflow


class RemoteStorage:
    """Whichever knows the scheme of a path."""

    can_be_watched = False

    def __init__(self) -> None:
        self._tensorflow = TensorFlowStorage()
        self._fsspec = FsspecStorage()

    def list(self, path: str) -> list[str]:
        return self._of(path).list(path)

    def stat(self, path: str) -> Entry:
        return self._of(path).stat(path)

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        return self._of(path).walk(path)

    def open(self, path: str) -> BinaryIO:
        return self._of(path).open(path)

    def _of(self, path: str) -> Storage:
        return self._tensorflow if is_opened_by_tensorflow(path) else self._fsspec
