"""Copies of versions in a bucket of the test's own."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyserving.errors import (
    Cancelled,
    DataLoss,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from pyserving.sources.model_cache import ModelCache
from pyserving.sources.storage import Entry, FileStat
from pyserving.sources.version_copy import FetchAttempt, VersionCopy
from pyserving.types import AspiredVersion, ServableId
from tests.sources.saved_models import DATA, with_variables

VERSION = AspiredVersion(ServableId("m", 7), "s3://bucket/m/007")


class Bucket:
    """One version folder of an object store."""

    def __init__(self) -> None:
        self.files = with_variables()
        self.tags = {name: hashlib.md5(data).hexdigest() for name, data in self.files.items()}
        self.trouble: OSError | None = None
        """Raised by each read."""
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        if not self.files:
            raise FileNotFoundError(errno.ENOENT, "nothing there", path)
        if "" in self.files:
            yield "", Entry(False, FileStat(len(self.files[""]), 1))
            return
        yield "", Entry(True, FileStat(0, 0))
        for name, data in self.files.items():
            yield name, Entry(False, FileStat(len(data), 1, tag=self.tags[name]))

    def read(self, path: str, start: int, end: int) -> bytes:
        self.entered.set()
        self.gate.wait(20)
        if self.trouble is not None:
            raise self.trouble
        return self.files[path.removeprefix(f"{VERSION.path}/")][start:end]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    made = Bucket()
    yield made
    made.gate.set()


@pytest.fixture
def copy(bucket: Bucket, tmp_path: Path) -> VersionCopy:
    return VersionCopy(VERSION, ModelCache(str(tmp_path)), bucket)  # type: ignore[arg-type]


def test_a_copy_is_whole_and_goes_without_a_trace(bucket: Bucket, copy: VersionCopy, tmp_path: Path) -> None:
    path = Path(copy.bring())
    assert path.is_relative_to(tmp_path)
    assert path.name == "7"
    assert {name: (path / name).read_bytes() for name in bucket.files} == bucket.files
    assert list(copy.take_attempts()) == [FetchAttempt(2, sum(map(len, bucket.files.values())))]
    copy.remove()
    copy.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_failed_may_be_brought_again(bucket: Bucket, copy: VersionCopy, tmp_path: Path) -> None:
    bucket.trouble = OSError(errno.EIO, "line cut", "s3://bucket/m/007/saved_model.pb")
    with pytest.raises(Unavailable, match=r"Could not fetch s3://bucket/m/007/saved_model\.pb: line cut"):
        copy.bring()
    copy.remove()
    assert list(tmp_path.iterdir()) == []
    bucket.trouble = None
    assert Path(copy.bring(), "saved_model.pb").exists()
    copy.remove()


@pytest.mark.parametrize(
    ("trouble", "kind", "sentence"),
    [
        (FileNotFoundError(errno.ENOENT, "no such key", "s3://bucket/m/007/a"), NotFound, "no such key"),
        (PermissionError(errno.EACCES, "Access Denied", "s3://bucket/m/007/a"), PermissionDenied, "Access Denied"),
        (OSError(errno.ENOSPC, "No space left on device"), ResourceExhausted, "No room for a copy in .*No space left"),
    ],
)
def test_an_error_has_its_code_and_a_sentence(
    bucket: Bucket, copy: VersionCopy, trouble: OSError, kind: type[ServingError], sentence: str
) -> None:
    bucket.trouble = trouble
    with pytest.raises(kind, match=sentence):
        copy.bring()
    copy.remove()


def test_what_is_no_folder_any_more_is_not_found(bucket: Bucket, copy: VersionCopy) -> None:
    bucket.files = {"": b"a file"}
    with pytest.raises(NotFound, match=r"Could not find SavedModel .* at supplied export directory path: s3://bucket"):
        copy.bring()
    bucket.files = {}
    with pytest.raises(NotFound, match="Could not fetch s3://bucket/m/007: nothing there"):
        copy.bring()


def test_files_that_change_meanwhile_are_no_version(bucket: Bucket, copy: VersionCopy) -> None:
    bucket.gate.clear()

    def replace() -> None:
        bucket.entered.wait(20)
        bucket.tags[DATA] = "another"
        bucket.gate.set()

    threading.Thread(target=replace).start()
    with pytest.raises(Unavailable, match="The files of s3://bucket/m/007 changed while they were fetched"):
        copy.bring()
    copy.remove()


def test_content_that_is_not_what_its_tag_says_is_refused(bucket: Bucket, copy: VersionCopy) -> None:
    bucket.tags[DATA] = hashlib.md5(b"another").hexdigest()
    with pytest.raises(DataLoss, match=f"What was fetched of s3://bucket/m/007/{DATA} is not what its ETag says"):
        copy.bring()
    copy.remove()


@pytest.mark.parametrize("tag", ["0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef-2", ""])
def test_tags_that_are_no_checksums_are_none(bucket: Bucket, copy: VersionCopy, tag: str) -> None:
    bucket.tags = dict.fromkeys(bucket.files, tag)
    assert Path(copy.bring(), DATA).read_bytes() == bucket.files[DATA]
    copy.remove()


def test_it_is_called_off_while_the_storage_hangs(bucket: Bucket, copy: VersionCopy, tmp_path: Path) -> None:
    bucket.gate.clear()

    def call_off() -> None:
        bucket.entered.wait(20)
        copy.cancel()

    threading.Thread(target=call_off).start()
    with pytest.raises(Cancelled):
        copy.bring()
    copy.remove()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Cancelled):
        copy.bring()


def test_what_tensorflow_opens_itself_is_not_copied(bucket: Bucket, tmp_path: Path) -> None:
    version = AspiredVersion(ServableId("m", 7), "gs://bucket/m/7")
    copy = VersionCopy(version, ModelCache(str(tmp_path)), bucket)  # type: ignore[arg-type]
    assert copy.bring() == "gs://bucket/m/7"
    assert list(copy.take_attempts()) == []
