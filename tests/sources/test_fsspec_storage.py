"""What fsspec opens, with its file system in memory for all others; S3 itself is in test_s3_storage.py."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator

import fsspec
import pytest
from fsspec.registry import _registry as schemes_in_use

from pyserving.sources.fsspec_storage import FsspecStorage
from pyserving.sources.remote_storage import RemoteStorage
from pyserving.sources.scan import Known, Rules, scan_servable
from pyserving.sources.settling import Patience
from pyserving.sources.snapshot import take_snapshot
from pyserving.sources.storage import Storage
from pyserving.sources.version_policy import MonitoredServable, VersionPolicy
from tests.sources.saved_models import DATA, with_variables


@pytest.fixture
def base_path() -> Iterator[str]:
    """With a whole version 1."""
    root = f"memory://{uuid.uuid4().hex}"
    for name, content in with_variables().items():
        write(f"{root}/m/1/{name}", content)
    yield f"{root}/m"
    fsspec.filesystem("memory").rm(root, recursive=True)


def write(path: str, content: bytes) -> None:
    with fsspec.open(path, "wb") as file:
        file.write(content)


def test_it_lists_stats_reads_and_walks(base_path: str) -> None:
    storage: Storage = FsspecStorage()
    assert storage.list(base_path) == ["1"]
    assert storage.list(f"{base_path}/1") == ["saved_model.pb", "variables"]
    assert storage.stat(f"{base_path}/1").is_folder
    found = storage.stat(f"{base_path}/1/saved_model.pb")
    with storage.open(f"{base_path}/1/saved_model.pb") as file:
        content = file.read()
    assert (found.is_folder, found.stat.size) == (False, len(content))
    assert found.stat.mtime_ns > 0
    assert FsspecStorage().read(f"{base_path}/1/saved_model.pb", 2, 5) == content[2:5]
    walked = dict(storage.walk(f"{base_path}/1"))
    assert list(walked) == [
        "",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert walked["saved_model.pb"] == found


def test_what_is_not_there_is_a_file_not_found(base_path: str) -> None:
    storage = FsspecStorage()
    for ask in (storage.list, storage.stat, storage.open, lambda path: list(storage.walk(path))):
        with pytest.raises(FileNotFoundError):
            ask(f"{base_path}/nothing")


def test_a_version_that_is_a_file_is_one(base_path: str) -> None:
    write(f"{base_path}/2", b"no folder")
    assert take_snapshot(f"{base_path}/2", FsspecStorage()).is_file


def test_what_is_no_content_of_a_version_is_left_out(base_path: str) -> None:
    for name in ("..data/saved_model.pb", "__pycache__/model.pyc"):
        write(f"{base_path}/1/{name}", b"")
    assert take_snapshot(f"{base_path}/1", FsspecStorage()).files.keys() == with_variables().keys()


def test_more_bytes_than_there_are_cannot_be_had(base_path: str) -> None:
    with pytest.raises(OSError, match="gave 3 bytes in the place of 5"):
        FsspecStorage().read(f"{base_path}/1/{DATA}", 4, 9)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nowhere://bucket/m", "Protocol not known: nowhere"),
        ("simplecache::memory://m", "not a plain URI"),
        ("memory://m::file:///etc", "not a plain URI"),
    ],
)
def test_a_path_that_nobody_can_open_says_so(path: str, sentence: str) -> None:
    with pytest.raises(OSError, match=sentence):
        RemoteStorage().list(path)


def test_a_package_that_is_missing_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(schemes_in_use, "s3", raising=False)
    sentence = r"s3:// needs a package that is not installed\. Install s3fs .*: pip install 'pyserving\[remote\]'"
    with pytest.raises(OSError, match=sentence):
        FsspecStorage().list("s3://bucket/m")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        OSError, match=r"s3:// needs packages that are not installed: pip install 'pyserving\[remote\]'"
    ):
        FsspecStorage().list("s3://bucket/m")


def test_a_version_in_it_is_found_whole(base_path: str) -> None:
    rules = Rules(Patience(quiet_seconds=0), storage=RemoteStorage())
    report = scan_servable(MonitoredServable("m", base_path), Known(), rules)
    assert report.problem is None
    assert report.versions is not None
    assert [version.path for version in report.versions] == [f"{base_path}/1"]


def test_a_shard_cut_short_is_noticed(base_path: str) -> None:
    write(f"{base_path}/1/{DATA}", b"wei")
    rules = Rules(Patience(quiet_seconds=0), storage=RemoteStorage())
    report = scan_servable(MonitoredServable("m", base_path, VersionPolicy("all")), Known(), rules)
    assert report.known.settling[1].reason == f"{DATA} has 3 of 7 bytes"
