from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from pyserving.errors import Cancelled
from pyserving.sources.download import Download

MIB = 1 << 20
FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * (5 * MIB // 256) + b"end",
    "assets/empty": b"",
}
SIZES = {name: len(data) for name, data in FILES.items()}


def read(name: str, start: int, end: int) -> bytes:
    return FILES[name][start:end]


def test_files_come_whole_in_pieces(tmp_path: Path) -> None:
    pieces = []

    def noted(name: str, start: int, end: int) -> bytes:
        pieces.append((name, end - start))
        return read(name, start, end)

    download = Download(noted, SIZES, tmp_path)
    download.run()
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES
    assert download.fetched_bytes == sum(SIZES.values())
    assert max(size for _, size in pieces) == 2 * MIB


def test_the_first_error_ends_it(tmp_path: Path) -> None:
    def broken(name: str, start: int, end: int) -> bytes:
        if start:
            raise ConnectionResetError("line cut")
        return read(name, start, end)

    with pytest.raises(ConnectionResetError, match="line cut"):
        Download(broken, SIZES, tmp_path).run()


def test_it_can_be_called_off_while_storage_hangs(tmp_path: Path) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hang(name: str, start: int, end: int) -> bytes:
        entered.set()
        gate.wait(20)
        return read(name, start, end)

    download = Download(hang, SIZES, tmp_path)

    def call_off() -> None:
        entered.wait(20)
        download.cancel()

    threading.Thread(target=call_off).start()
    try:
        with pytest.raises(Cancelled):
            download.run()
        assert not gate.is_set(), "it did not wait for the storage"
    finally:
        gate.set()


def test_one_that_is_called_off_before_it_begins_brings_nothing(tmp_path: Path) -> None:
    download = Download(read, SIZES, tmp_path)
    download.cancel()
    with pytest.raises(Cancelled):
        download.run()
    assert download.fetched_bytes == 0


def test_it_tells_how_far_it_is_every_few_seconds(tmp_path: Path) -> None:
    reports: list[int] = []
    seconds: Callable[[], float] = count(step=3.0).__next__
    Download(read, SIZES, tmp_path, reports.append, clock=seconds).run()
    assert reports == sorted(reports)
    assert reports[-1] <= sum(SIZES.values())


@pytest.mark.parametrize("name", ["/etc/passwd", "a//b", "./a", "a/./b"])
def test_names_that_are_no_relative_paths_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="cannot be the name of a file"):
        Download(read, {name: 1}, tmp_path).run()
