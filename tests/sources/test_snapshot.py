from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyserving.sources.snapshot import is_replaced, is_untouched, take_snapshot
from tests.sources.saved_models import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "1", {"saved_model.pb": b"graph", "variables/variables.index": b"index"})


def set_times(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def test_it_holds_every_file_below_the_folder(folder: Path):
    snapshot = take_snapshot(str(folder))
    assert {name: file.size for name, file in snapshot.files.items()} == {
        "saved_model.pb": 5,
        "variables/variables.index": 5,
    }
    assert snapshot.folders.keys() == {"", "variables"}


def test_a_file_is_a_snapshot_of_itself(tmp_path: Path):
    (tmp_path / "7").write_bytes(b"text")
    snapshot = take_snapshot(str(tmp_path / "7"))
    assert snapshot.is_file
    assert is_untouched(str(tmp_path / "7"), snapshot)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        take_snapshot(str(tmp_path / "1"))


def test_links_are_followed_once_and_dangling_ones_left_out(folder: Path):
    (folder / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "variables")
    (folder / "nowhere").symlink_to(folder / "missing")
    assert len(take_snapshot(str(folder)).files) == 2


def test_folders_that_kubernetes_swaps_are_seen_through_their_links_only(tmp_path: Path):
    write(tmp_path / "1" / "..2024_01", {"saved_model.pb": b"graph"})
    (tmp_path / "1" / "..data").symlink_to("..2024_01")
    (tmp_path / "1" / "saved_model.pb").symlink_to("..data/saved_model.pb")
    assert list(take_snapshot(str(tmp_path / "1")).files) == ["saved_model.pb"]


def test_what_is_neither_a_file_nor_a_folder_is_named_apart(folder: Path):
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("/dev/null")
    snapshot = take_snapshot(str(folder))
    assert snapshot.specials == ("link", "pipe")
    assert len(snapshot.files) == 2


def test_an_untouched_folder_is_untouched(folder: Path):
    assert is_untouched(str(folder), take_snapshot(str(folder)))


def test_a_written_an_added_and_a_removed_file_replace(folder: Path):
    before = take_snapshot(str(folder))
    set_times(folder / "saved_model.pb", 1)
    written = take_snapshot(str(folder))
    write(folder, {"assets/vocab.txt": b"a"})
    added = take_snapshot(str(folder))
    (folder / "saved_model.pb").unlink()
    removed = take_snapshot(str(folder))
    for earlier, later in [(before, written), (written, added), (added, removed)]:
        assert not is_untouched(str(folder), earlier)
        assert is_replaced(earlier, later)


def test_another_file_made_to_look_the_same_replaces(folder: Path):
    set_times(folder / "saved_model.pb", 1)
    before = take_snapshot(str(folder))
    (folder / "new").write_bytes(b"other")
    set_times(folder / "new", 1)
    (folder / "new").rename(folder / "saved_model.pb")
    after = take_snapshot(str(folder))
    assert after.files["saved_model.pb"].size == before.files["saved_model.pb"].size
    assert is_replaced(before, after)


def test_permissions_hidden_files_and_caches_do_not_replace(folder: Path):
    before = take_snapshot(str(folder))
    (folder / "saved_model.pb").chmod(0o400)
    write(folder, {".nfs0001": b"", "__pycache__/model.pyc": b"code"})
    assert not is_untouched(str(folder), before)
    assert not is_replaced(before, take_snapshot(str(folder)))


def test_the_newest_file_says_how_long_ago_the_folder_changed(folder: Path):
    newest = max(max(file.mtime_ns, file.ctime_ns) for file in take_snapshot(str(folder)).files.values())
    assert take_snapshot(str(folder)).seconds_since_change(newest / 1e9 + 5.0) == pytest.approx(5.0, abs=0.1)


def test_moving_a_folder_into_place_does_not_make_it_young(folder: Path, tmp_path: Path):
    before = take_snapshot(str(folder)).seconds_since_change(0.0)
    folder.rename(tmp_path / "2")
    assert take_snapshot(str(tmp_path / "2")).seconds_since_change(0.0) == before
