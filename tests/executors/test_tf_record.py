"""TFRecord files as TensorFlow writes them, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from pyserving.errors import DataLoss, ServingError
from pyserving.executors.tf_record import records


def write(path: Path, *contents: bytes) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return path


def test_records_come_as_they_were_written(tmp_path):
    path = write(tmp_path / "file", b"one", b"", b"\x00three")
    assert list(records(str(path))) == [b"one", b"", b"\x00three"]


def test_empty_file_has_no_records(tmp_path):
    assert list(records(str(write(tmp_path / "file")))) == []


def test_no_file_is_none(tmp_path):
    assert records(str(tmp_path / "file")) is None


def test_text_is_no_tfrecord(tmp_path):
    (tmp_path / "file").write_text("Something that somebody put there by mistake.")
    with pytest.raises(DataLoss, match=r"^corrupted record at 0 \(Is this even a TFRecord file\?\)$"):
        next(records(str(tmp_path / "file")))


def test_truncated_file_gives_what_is_whole(tmp_path):
    path = write(tmp_path / "file", b"one", b"two")
    path.write_bytes(path.read_bytes()[:-3])
    reading = records(str(path))
    assert next(reading) == b"one"
    with pytest.raises(DataLoss, match=r"^truncated record at 19"):
        next(reading)


def test_folder_is_an_error_of_the_file_system(tmp_path):
    with pytest.raises(ServingError, match="Is a directory"):
        next(records(str(tmp_path)))


def test_reading_says_nothing_of_its_age(tmp_path, caplog):
    list(records(str(write(tmp_path / "file", b"one"))))
    assert caplog.records == []
