"""The files of a prefix: whole records, cut into files, no more than there may be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def test_a_prefix_that_ends_in_a_dash_leaves_the_files_of_the_one_without_it_alone(folder: Path) -> None:
    files, others = (LogFiles(f"{folder}/{prefix}", Bounds(250, 3600, 250)) for prefix in ("m-", "m"))
    for log in (others, files, files):
        log.prepare()
        log.append(b"one")
        log.close()
    assert [name.startswith("m--") for name in names(folder)] == [True, False]


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


def test_a_part_of_a_record_that_cannot_be_taken_back_is_the_last_of_its_file(
    files: LogFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_some(descriptor: int, frame: bytes) -> None:
        os.write(descriptor, frame[:5])
        raise OSError(5, "Input/output error")

    def cut(descriptor: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    files.append(b"one")
    with monkeypatch.context() as patch:
        patch.setattr(log_files, "_write", write_some)
        patch.setattr(os, "ftruncate", cut)
        with pytest.raises(OSError, match="Input/output error"):
            files.append(b"two")
    files.append(b"three")
    first, second = (folder / name for name in names(folder))
    assert first.read_bytes() == framed(b"one") + framed(b"two")[:5]
    assert read(second) == [b"three"]


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def move(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def replace_by_a_new_one(folder: Path) -> None:
    move(folder)
    folder.mkdir()


@pytest.mark.parametrize("vanish", [remove, move, replace_by_a_new_one])
def test_a_folder_that_vanishes_takes_no_later_record_along(files: LogFiles, folder: Path, vanish: Any) -> None:
    files.append(b"one")
    vanish(folder)
    files.append(b"two")
    files.append(b"three")
    files.close()
    assert [read(folder / name) for name in names(folder)] == [[b"two", b"three"]]


def test_a_file_that_was_removed_takes_no_later_record_along(files: LogFiles, folder: Path) -> None:
    files.append(b"one")
    (folder / names(folder)[0]).unlink()
    files.append(b"two")
    files.close()
    assert [read(folder / name) for name in names(folder)] == [[b"two"]]


def test_a_file_that_cannot_be_finished_is_told_and_takes_no_record_along(
    files: LogFiles, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def rename(old: str, new: str) -> None:
        raise OSError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        for record in (RECORD, RECORD, RECORD):
            files.append(record)
    assert [len(read(folder / name)) for name in names(folder)] == [2, 1]
    assert caplog.messages == [f"A log file of {folder}/m could not be finished: [Errno 13] Permission denied"]


def test_files_that_another_server_removes_meanwhile_are_no_trouble(
    files: LogFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [*os.listdir(folder), "m-20200101T000000-other-1-000001.tfrecord"]
    monkeypatch.setattr(os, "listdir", lambda path: listed)
    files.append(b"one")
    monkeypatch.undo()
    assert [read(folder / name) for name in names(folder)] == [[b"one"]]


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


def test_what_cannot_be_finished_keeps_nothing_else_from_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = abandoned(folder, framed(b"one"))
    for number in (0, 2):
        (folder / f"m-20200101T000000-host-7-{number:06}.tfrecord.open").mkdir()
    LogFiles(f"{folder}/m", Bounds()).prepare()
    assert read(path.with_suffix("")) == [b"one"]
    assert [message.partition(" and ")[2] for message in caplog.messages] == ["cannot be finished: Is a directory"] * 2


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        LogFiles(f"{tmp_path}/file/m", Bounds()).prepare()
