"""Small files of a version folder, from whatever file system TensorFlow knows."""

from __future__ import annotations

import tensorflow as tf

from pyserving.errors import error_for


def read(path: str) -> bytes | None:
    """What is in a file; None when there is none. Raises the ServingError of what the file system says."""
    try:
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path, "rb") as file:
            content: bytes = file.read()
            return content
    except tf.errors.OpError as error:
        raise error_for(error.error_code, error.message) from None
