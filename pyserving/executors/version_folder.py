"""Files of a version folder, which may lie on whatever storage TensorFlow can read."""

from __future__ import annotations

import os

from pyserving.errors import NotFound, Unknown


def is_remote(folder: str) -> bool:
    """Whether it takes TensorFlow to read the folder."""
    return "://" in folder


def has_file(folder: str, name: str) -> bool:
    """Whether `name` is in the folder; of what cannot be looked at, False."""
    path = os.path.join(folder, name)
    if not is_remote(folder):
        return os.path.exists(path)
    import tensorflow as tf  # the first remote path imports it, and local ones never do

    return bool(tf.io.gfile.exists(path))


def read_file(folder: str, name: str) -> bytes:
    """All of it. NotFound, or Unknown with the system's reason, when it cannot be read."""
    path = os.path.join(folder, name)
    try:
        return _read_remote(path) if is_remote(folder) else _read_local(path)
    except FileNotFoundError as error:
        raise NotFound(f"{path}; {error.strerror}") from None
    except OSError as error:
        raise Unknown(f"{path}; {error.strerror}") from None


def _read_local(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_remote(path: str) -> bytes:
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content: bytes = file.read()
            return content
    except tf.errors.NotFoundError as error:
        raise NotFound(error.message) from None
    except tf.errors.OpError as error:
        raise Unknown(error.message) from None
