"""Storage behind a URI: whatever file systems TensorFlow knows, `gs://` among them, and plug-ins that are installed."""

from __future__ import annotations

import errno
import importlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pyserving.sources.storage import Entry, FileStat

_log = logging.getLogger(__name__)

_PLUG_INS = "tensorflow_io"
"""Registers `s3://`, `hdfs://` and others when it is imported."""


class RemoteStorage:
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

    def open(self, path: str) -> BinaryIO:
        """Fetched whole: reading byte by byte would ask the storage for each."""
        with _os_errors(path) as tf, tf.io.gfile.GFile(path, "rb") as file:
            return io.BytesIO(file.read())


@contextmanager
def _os_errors(path: str) -> Iterator[Any]:
    """TensorFlow, its errors turned into those of the operating system."""
    import tensorflow as tf

    _import_plug_ins(path, tf)
    try:
        yield tf
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, error.message, path) from None
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message, path) from None


def _import_plug_ins(path: str, tf: Any) -> None:
    if path.partition("://")[0] in tf.io.gfile.get_registered_schemes():
        return
    try:
        importlib.import_module(_PLUG_INS)
    except ModuleNotFoundError:
        _log.debug("%s, which may know %s, is not installed", _PLUG_INS, path)
    except Exception:  # it may have been built for another TensorFlow
        _log.exception("%s, which may know %s, cannot be imported", _PLUG_INS, path)
