"""A file that is followed, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyserving.followed_file import FollowedFile
from pyserving.workers import Workers


class Numbers:
    """Has the numbers of a file; out of memory as often as the test says."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.told: list[str] = []
        self.failures = 0

    async def take(self, number: int) -> None:
        if self.failures:
            self.failures -= 1
            raise MemoryError
        self.taken.append(number)


async def test_what_could_not_be_taken_for_reasons_of_the_moment_is_tried_again(tmp_path: Path) -> None:
    path, numbers = tmp_path / "number", Numbers()
    path.write_text("2")

    def read(path: str) -> int:
        return int(Path(path).read_text())

    async with Workers("numbers", 1) as reading:
        file = FollowedFile(
            str(path), 1, read=read, take=numbers.take, tell=numbers.told.append, reading=reading, look_seconds=3600
        )
        numbers.failures = 2
        await file.look()
        for _ in range(2):
            with pytest.raises(MemoryError):
                await file.look()
        assert (numbers.taken, numbers.told) == ([], [])
        for _ in range(3):
            await file.look()
        assert (numbers.taken, numbers.told) == ([2], [""])
