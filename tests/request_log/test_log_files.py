"""The files of a prefix: whole records, cut into files, no more than there may be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyserving.codec.tf_record import FRAME_BYTES, framed, records
from pyserving.errors import ResourceExhausted
from pyserving.request_log import log_files
from pyserving.request_log.log_files import Bounds, LogFiles

RECORD = b"x" * (100 - FRAME_BYTES)
"""Takes 100 bytes in a file."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def files(folder: Path) -> Iterator[LogFiles]:
    made = LogFiles(f"{folder}/m", Bounds(max_file_bytes=250, max_total_bytes=1000), clock=lambda: 1.7e9)
    made.prepare()
    yield made
    made.close()


def read(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(records(file))


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_record_is_in_the_file_at_once(files: LogFiles, folder: Path) -> None:
    files.append(b"one")
    [name] = names(folder)
    assert name.startswith("m-20231114T221320-")
    assert name.endswith("-000001.tfrecord.open")
    assert read(folder / name) == [b"one"]


def test_a_finished_file_has_its_final_name(files: LogFiles, folder: Path) -> None:
    files.append(b"one")
    files.close()
    [name] = names(folder)
    assert name.endswith("-000001.tfrecord")


def test_a_full_file_is_followed_by_another(files: LogFiles, folder: Path) -> None:
    for _ in range(5):
        files.append(RECORD)
    files.close()
    assert [len(read(folder / name)) for name in names(folder)] == [2, 2, 1]


def test_the_oldest_go_before_there_are_too_many(files: LogFiles, folder: Path) -> None:
    for number in range(20):
        files.append(RECORD[:-2] + b"%02d" % number)
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 1000
    files.close()
    kept = [record[-2:] for name in names(folder) for record in read(folder / name)]
    assert kept == [b"%02d" % number for number in range(12, 20)]


def test_nothing_else_in_the_folder_is_touched(files: LogFiles, folder: Path) -> None:
    others = ["m", "m-notes.tfrecord", "n-20200101T000000-h-1-000001.tfrecord", "m-2-20200101T000000-h-1-1.tfrecord"]
    for other in others:
        (folder / other).write_bytes(b"x" * 10_000)
    for _ in range(20):
        files.append(RECORD)
    assert {*others} < {*names(folder)}


def test_a_record_larger_than_a_file_is_refused(files: LogFiles, folder: Path) -> None:
    with pytest.raises(ResourceExhausted, match="The record has 266 bytes, a log file 250"):
        files.append(b"x" * 250)
    assert names(folder) == []


def test_no_name_comes_twice(folder: Path, files: LogFiles) -> None:
    files.append(b"one")
    files.close()
    again = LogFiles(f"{folder}/m", Bounds(), clock=lambda: 1.7e9)
    again.append(b"two")
    again.close()
    assert [read(folder / name) for name in names(folder)] == [[b"one"], [b"two"]]


def test_a_folder_may_be_the_prefix(tmp_path: Path) -> None:
    files = LogFiles(f"{tmp_path}/deep/down/", Bounds())
    files.prepare()
    files.append(b"one")
    files.close()
    [name] = names(tmp_path / "deep" / "down")
    assert name[0] == "2"


def test_a_write_that_fails_midway_leaves_no_part_of_a_record(
    files: LogFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.append(b"one")
    full = OSError(28, "No space left on device")

    def write_some(descriptor: int, frame: bytes) -> None:
        os.write(descriptor, frame[:5])
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(log_files, "_write", write_some)
        with pytest.raises(OSError, match="No space left"):
            files.append(b"two")
    files.append(b"three")
    files.close()
    assert [read(folder / name) for name in names(folder)] == [[b"one", b"three"]]


def abandoned(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    path = folder / "m-20200101T000000-host-7-000001.tfrecord.open"
    path.write_bytes(content)
    return path


def test_what_a_dead_process_left_is_cut_to_whole_records(folder: Path) -> None:
    path = abandoned(folder, framed(b"one") + framed(b"two")[:-3])
    LogFiles(f"{folder}/m", Bounds()).prepare()
    assert read(path.with_suffix("")) == [b"one"]
    assert not path.exists()


def test_what_a_dead_process_had_not_begun_to_fill_goes(folder: Path) -> None:
    abandoned(folder, framed(b"one")[:-3])
    LogFiles(f"{folder}/m", Bounds()).prepare()
    assert names(folder) == []


def test_the_file_of_a_living_process_is_left_alone(files: LogFiles, folder: Path) -> None:
    files.append(b"one")
    LogFiles(f"{folder}/m", Bounds()).prepare()
    assert [name.endswith(".open") for name in names(folder)] == [True]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        LogFiles(f"{tmp_path}/file/m", Bounds()).prepare()
