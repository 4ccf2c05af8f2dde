from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pyserving.errors import FailedPrecondition, ResourceExhausted
from pyserving.sources.model_cache import ModelCache

DIES_WITH_A_FOLDER = """
import os, sys
from pyserving.sources.model_cache import ModelCache
folder = ModelCache(sys.argv[1]).new_folder(0)
(folder.path / "saved_model.pb").write_bytes(b"graph")
print(folder.path, flush=True)
os._exit(1)
"""


def test_a_folder_is_its_owners_alone_and_leaves_nothing(tmp_path: Path) -> None:
    cache = ModelCache(str(tmp_path / "made" / "when_needed"))
    first, second = cache.new_folder(10), cache.new_folder(10)
    assert first.path != second.path
    assert first.path.stat().st_mode & 0o077 == 0
    (first.path / "variables").mkdir()
    for folder in (first, second):
        folder.remove()
    assert list((tmp_path / "made" / "when_needed").iterdir()) == []


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    mine = tmp_path / "pyserving-of-somebody"
    mine.mkdir()
    living = ModelCache(str(tmp_path)).new_folder(0)
    run = [sys.executable, "-c", DIES_WITH_A_FOLDER, str(tmp_path)]
    left = Path(subprocess.run(run, capture_output=True, text=True, check=False).stdout.strip())
    assert (left / "saved_model.pb").exists()
    newest = ModelCache(str(tmp_path)).new_folder(0)
    assert not left.exists()
    lock_files = {path.with_name(f"{path.name}.lock") for path in (living.path, newest.path)}
    assert set(tmp_path.iterdir()) == {mine, living.path, newest.path} | lock_files
    living.remove()
    newest.remove()


def test_where_there_is_no_room_nothing_is_begun(tmp_path: Path) -> None:
    with pytest.raises(
        ResourceExhausted, match=f"No room for a copy in {tmp_path}: {1 << 60} bytes are needed, .* free"
    ):
        ModelCache(str(tmp_path)).new_folder(1 << 60)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_without_a_name_it_is_among_the_temporary_ones(temporary: Path) -> None:
    folder = ModelCache().new_folder(0)
    place = temporary / f"pyserving-models-{os.getuid()}"
    assert folder.path.parent == place
    assert place.stat().st_mode & 0o777 == 0o700
    folder.remove()


def test_a_folder_of_that_name_that_others_may_write_is_refused(temporary: Path) -> None:
    (temporary / f"pyserving-models-{os.getuid()}").mkdir()
    (temporary / f"pyserving-models-{os.getuid()}").chmod(0o777)
    with pytest.raises(FailedPrecondition, match="not this user's own folder; --model_cache_dir names another place"):
        ModelCache().new_folder(0)


def test_a_link_of_that_name_is_refused(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (temporary / f"pyserving-models-{os.getuid()}").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(FailedPrecondition, match="not this user's own folder"):
        ModelCache().new_folder(0)
