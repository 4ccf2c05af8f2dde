"""Storage that TensorFlow opens: `gs://`, its own in memory, and those of plug-ins that are installed."""

from __future__ import annotations

import errno
import functools
import importlib
import importlib.util
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pyserving.sources.storage import Entry, FileStat, walk_by_listing

_log = logging.getLogger(__name__)

_OWN_SCHEMES = ("gs", "ram")
_PLUG_INS = "tensorflow_io"
"""Registers `s3://`, `hdfs://` and others when it is imported."""


def is_opened_by_tensorflow(path: str) -> bool:
    """Whether TensorFlow reads what is at this URI itself."""
    scheme = path.partition("://")[0]
    return scheme in _OWN_SCHEMES or scheme in _plug_in_schemes()


@functools.cache
def _plug_in_schemes() -> frozenset[str]:
    """TensorFlow is imported only where plug-ins are installed."""
    if importlib.util.find_spec(_PLUG_INS) is None:
        return frozenset()
    try:
        importlib.import_module(_PLUG_INS)
    except Exception:  # it may have been built for another TensorFlow
        _log.exception("%s, which may know further file systems, cannot be imported", _PLUG_INS)
        return frozenset()
    import tensorflow as tf

    return frozenset(tf.io.gfile.get_registered_schemes())


class TensorFlowStorage:
    """`tf.io.gfile`. TensorFlow is imported at the first call, by the thread that makes it."""

    can_be_watched = False

    def list(self, path: str) -> list[str]:
        with _os_errors(path) as tf:
            tf.io.gfile.stat(path)  # says what is wrong; listdir takes all that goes wrong for a missing folder
            # Object stores mark folders with a slash, and some list what is below as well.
            names = {name.partition("/")[0] for name in tf.io.gfile.listdir(path)}
        return sorted(names - {""})

    def stat(self, path: str) -> Entry:
        with _os_errors(path) as tf:
            found = tf.io.gfile.stat(path)
        return Entry(found.is_directory, FileStat(found.length, found.mtime_nsec))

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        return walk_by_listing(self, path)

    def open(self, path: str) -> BinaryIO:
        """Fetched whole: reading byte by byte would ask the storage for each."""
        with _os_errors(path) as tf, tf.io.gfile.GFile(path, "rb") as file:
            return io.BytesIO(file.read())


@contextmanager
def _os_errors(path: str) -> Iterator[Any]:
    """TensorFlow, its errors turned into those of the operating system."""
    import tensorflow as tf

    try:
        yield tf
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, error.message, path) from None
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message, path) from None
