"""Records of a TFRecord file, read by TensorFlow's own reader from whatever file system it knows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import tensorflow as tf

from pyserving.errors import error_for

# Unwrapped, it does not tell the operator's log that it is old. What is to take its place, a tf.data pipeline, makes an
# eager context, which claims memory of every GPU for itself.
_record_iterator = inspect.unwrap(tf.compat.v1.io.tf_record_iterator)


def records(path: str) -> Iterator[bytes] | None:
    """The records of an uncompressed file, one after another; None when there is no file.

    Reading one raises DataLoss where the file is damaged or something else, and what the file system says.
    """
    return _records(path) if tf.io.gfile.exists(path) else None


def _records(path: str) -> Iterator[bytes]:
    try:
        yield from _record_iterator(path)
    except tf.errors.OpError as error:
        raise error_for(error.error_code, error.message) from None
