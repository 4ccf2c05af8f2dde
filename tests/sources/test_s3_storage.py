"""An S3 of the test's own, asked by s3fs: what requests a look costs, and what its refusals look like."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyserving.errors import DataLoss
from pyserving.sources.counted_storage import CountedStorage
from pyserving.sources.fsspec_storage import FsspecStorage
from pyserving.sources.model_cache import ModelCache
from pyserving.sources.remote_storage import RemoteStorage
from pyserving.sources.scan import Known, Report, Rules, scan_servable
from pyserving.sources.settling import Patience
from pyserving.sources.snapshot import is_replaced, take_snapshot
from pyserving.sources.version_copy import VersionCopy
from pyserving.sources.version_policy import MonitoredServable
from pyserving.types import AspiredVersion, ServableId
from tests.fake_s3 import FakeS3
from tests.sources.saved_models import DATA, with_variables

pytestmark = pytest.mark.slow

SERVABLE = MonitoredServable("m", "s3://bucket/models/m")
VERSION = AspiredVersion(ServableId("m", 1), "s3://bucket/models/m/1")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """`s3://bucket/models/m` has a version 1, and the objects that consoles make for folders."""
    import s3fs

    with FakeS3() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        for key in ("models/m/", "models/m/1/", "models/m/1/variables/"):
            made.put("bucket", key, b"")
        for name, content in with_variables().items():
            made.put("bucket", f"models/m/1/{name}", content)
        yield made
        s3fs.S3FileSystem.clear_instance_cache()
        gc.collect()  # its connections are closed while there is a server


def scan(servable: MonitoredServable = SERVABLE, known: Known | None = None) -> Report:
    return scan_servable(servable, known or Known(), Rules(Patience(quiet_seconds=0), storage=RemoteStorage()))


def test_a_look_at_a_base_path_costs_two_listings_and_each_content_is_read_once(s3: FakeS3) -> None:
    storage = CountedStorage(RemoteStorage())
    rules = Rules(Patience(quiet_seconds=0), storage=storage)
    report = scan_servable(SERVABLE, Known(), rules)
    assert report.versions == (VERSION,)
    assert s3.requests[:2] == ["LIST models/m/", "LIST models/m/1/"]
    assert s3.count("LIST") == storage.listings == 2
    s3.requests.clear()
    assert scan_servable(SERVABLE, report.known, rules).changed == ()
    assert s3.requests == ["LIST models/m/", "LIST models/m/1/"]


def test_a_listing_of_many_pages_is_read_to_its_end(s3: FakeS3) -> None:
    s3.page_size = 2
    assert take_snapshot(VERSION.path, RemoteStorage()).files.keys() == with_variables().keys()
    assert s3.count("LIST") == 3


def test_an_upload_that_is_not_over_is_waited_for(s3: FakeS3) -> None:
    content = s3.buckets["bucket"].pop(f"models/m/1/{DATA}").data
    report = scan()
    assert report.versions is None
    assert report.known.settling[1].reason == f"{DATA} is not there"
    s3.put("bucket", f"models/m/1/{DATA}", content)
    assert scan(known=report.known).versions == (VERSION,)


def test_another_content_of_the_same_size_is_another_file(s3: FakeS3) -> None:
    before = take_snapshot(VERSION.path, RemoteStorage())
    stored = s3.buckets["bucket"][f"models/m/1/{DATA}"]
    s3.buckets["bucket"][f"models/m/1/{DATA}"] = stored._replace(etag="another")
    assert is_replaced(before, take_snapshot(VERSION.path, RemoteStorage()))
    s3.buckets["bucket"][f"models/m/1/{DATA}"] = stored._replace(time=stored.time + 60)
    assert not is_replaced(before, take_snapshot(VERSION.path, RemoteStorage())), "uploaded again, and the same"


@pytest.mark.parametrize(
    ("base_path", "sentence"),
    [
        ("s3://bucket/models/n", "Could not find base path s3://bucket/models/n for servable m with error NOT_FOUND"),
        ("s3://nobody/m", "Could not list base path s3://nobody/m for servable m: The specified bucket does not exist"),
        ("s3://secret/m", "Could not list base path s3://secret/m for servable m: Access Denied"),
    ],
)
def test_a_refusal_is_the_models_problem_in_words(s3: FakeS3, base_path: str, sentence: str) -> None:
    s3.denied.add("secret")
    problem = scan(MonitoredServable("m", base_path)).problem
    assert problem is not None
    assert sentence in problem


def test_credentials_that_were_mended_count_at_the_next_look(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    credentials.write_text("[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n")
    problem = scan().problem
    assert problem is not None
    assert problem.endswith("The AWS Access Key Id you provided does not exist.")
    credentials.write_text(f"[default]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = right\n")
    assert scan().versions == (VERSION,)


def test_a_network_that_is_away_is_the_models_problem_in_words(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3.__exit__(None, None, None)
    problem = scan().problem
    assert problem is not None
    assert "Could not connect to the endpoint URL" in problem


def test_a_copy_is_whole(s3: FakeS3, tmp_path: Path) -> None:
    copy = VersionCopy(VERSION, ModelCache(str(tmp_path)), FsspecStorage())
    path = Path(copy.bring())
    assert {name: (path / name).read_bytes() for name in with_variables()} == with_variables()
    copy.remove()
    stored = s3.buckets["bucket"][f"models/m/1/{DATA}"]
    s3.buckets["bucket"][f"models/m/1/{DATA}"] = stored._replace(data=stored.data[::-1])
    with pytest.raises(DataLoss, match="is not what its ETag says"):
        copy.bring()
    copy.remove()
