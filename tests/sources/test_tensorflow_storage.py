"""TensorFlow's own file systems as storage, with the one that lives in memory for all remote ones."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyserving.executors.executor import open_executor
from pyserving.sources import tensorflow_storage
from pyserving.sources.scan import Known, Rules, scan_servable
from pyserving.sources.settling import Patience
from pyserving.sources.storage import Storage
from pyserving.sources.tensorflow_storage import TensorFlowStorage, is_opened_by_tensorflow
from pyserving.sources.version_policy import MonitoredServable, VersionPolicy
from tests import models
from tests.conftest import Exported

pytestmark = pytest.mark.slow


@pytest.fixture
def base_path(exported: Exported) -> str:
    """`half_plus_two` as version 1 in TensorFlow's memory."""
    import tensorflow as tf

    base_path = f"ram://{uuid.uuid4().hex}/m"
    source = exported(models.half_plus_two)
    for path in source.rglob("*"):
        target = f"{base_path}/1/{path.relative_to(source)}"
        if path.is_file():
            tf.io.gfile.makedirs(target.rpartition("/")[0])
            tf.io.gfile.copy(str(path), target)
    return base_path


def test_it_lists_stats_and_reads(base_path: str) -> None:
    storage: Storage = TensorFlowStorage()
    assert storage.list(base_path) == ["1"]
    assert "saved_model.pb" in storage.list(f"{base_path}/1")
    assert storage.stat(f"{base_path}/1").is_folder
    found = storage.stat(f"{base_path}/1/saved_model.pb")
    with storage.open(f"{base_path}/1/saved_model.pb") as file:
        assert (found.is_folder, found.stat.size) == (False, len(file.read()))


def test_what_is_not_there_is_a_file_not_found(base_path: str) -> None:
    storage = TensorFlowStorage()
    for ask in (storage.list, storage.stat, storage.open):
        with pytest.raises(FileNotFoundError):
            ask(f"{base_path}/nothing")


def test_a_scheme_that_nobody_knows_says_so() -> None:
    with pytest.raises(OSError, match="File system scheme 'nowhere' not implemented"):
        TensorFlowStorage().list("nowhere://bucket/m")


def test_a_version_in_it_is_found_whole_and_loads(base_path: str) -> None:
    rules = Rules(Patience(quiet_seconds=0), storage=TensorFlowStorage())
    report = scan_servable(MonitoredServable("m", base_path), Known(), rules)
    assert report.problem is None
    assert report.versions is not None
    (version,) = report.versions
    assert version.path == f"{base_path}/1"
    executor = open_executor("tensorflow", version.path)
    assert "serving_default" in executor.signature_defs
    executor.close()


def test_a_shard_cut_short_is_noticed(base_path: str) -> None:
    import tensorflow as tf

    shard = f"{base_path}/1/variables/variables.data-00000-of-00001"
    with tf.io.gfile.GFile(shard, "rb") as file:
        data = file.read()
    tf.io.gfile.remove(shard)  # this file system appends to what is there
    with tf.io.gfile.GFile(shard, "wb") as file:
        file.write(data[:-1])
    rules = Rules(Patience(quiet_seconds=0), storage=TensorFlowStorage())
    report = scan_servable(MonitoredServable("m", base_path, VersionPolicy("all")), Known(), rules)
    assert f"has {len(data) - 1} of {len(data)} bytes" in report.known.settling[1].reason


def test_tensorflow_is_not_imported_for_local_paths(tmp_path: Path) -> None:
    code = (
        "import sys; from pyserving import model_server; from pyserving.sources.scan import *; "
        f"print(scan_servable(MonitoredServable('m', 'file://{tmp_path}'), Known(), Rules()).problem); "
        "print('tensorflow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "No versions of servable m found" in said
    assert said.endswith("False\n")


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The source of the `tensorflow_io` that is installed."""
    tensorflow_storage._plug_in_schemes.cache_clear()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "tensorflow_io.py"
    tensorflow_storage._plug_in_schemes.cache_clear()
    sys.modules.pop("tensorflow_io", None)


def test_tensorflow_opens_its_own_schemes_and_those_of_plug_ins(plug_ins: Path) -> None:
    schemes = ("gs", "ram", "s3")
    assert [is_opened_by_tensorflow(f"{scheme}://bucket/m") for scheme in schemes] == [True, True, False]
    plug_ins.write_text("import tensorflow as tf\ntf.io.gfile.get_registered_schemes = lambda: ['', 'file', 's3']\n")
    import tensorflow as tf

    registered = tf.io.gfile.get_registered_schemes
    tensorflow_storage._plug_in_schemes.cache_clear()
    try:
        assert is_opened_by_tensorflow("s3://bucket/m")
    finally:
        tf.io.gfile.get_registered_schemes = registered


def test_plug_ins_that_cannot_be_imported_open_nothing(plug_ins: Path, caplog: pytest.LogCaptureFixture) -> None:
    plug_ins.write_text("raise ImportError('built for another TensorFlow')")
    assert not is_opened_by_tensorflow("s3://bucket/m")
    assert not is_opened_by_tensorflow("s3://bucket/m")
    assert caplog.messages == ["tensorflow_io, which may know further file systems, cannot be imported"]
