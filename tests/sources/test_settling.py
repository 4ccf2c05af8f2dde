from __future__ import annotations

import pytest

from pyserving.sources.completeness import Incomplete
from pyserving.sources.settling import STILL_CHANGING, Patience, Settled, Settling, settle
from pyserving.sources.snapshot import NOTHING, FileStat, Snapshot

WALL = 1_700_000_000.0
PATIENCE = Patience(quiet_seconds=0.5, timeout_seconds=30.0, clock_margin_seconds=600.0)


def folder(age: float, size: int = 1, name: str = "saved_model.pb") -> Snapshot:
    """One file, written `age` seconds before WALL by a clock that knows fractions."""
    written = int((WALL - age) * 1_000_000) * 1_000 + 1
    return Snapshot({name: FileStat(size, 1, written, 1)}, {"": 0})


def look(
    snapshot: Snapshot,
    now: float = 100.0,
    before: Settling | None = None,
    missing: str | None = None,
    is_from_the_start: bool = True,
) -> Settled | Settling:
    wall = WALL + now - 100.0 if is_from_the_start else None
    return settle(snapshot, before, now, now, wall, PATIENCE, lambda: missing and Incomplete(missing))


def test_a_folder_that_was_old_at_the_start_needs_no_second_look():
    assert look(folder(age=600.6)) == Settled(folder(age=600.6))


def test_a_young_folder_is_looked_at_again_when_it_may_be_quiet():
    verdict = look(folder(age=600.2))
    assert isinstance(verdict, Settling)
    assert verdict.reason == STILL_CHANGING
    assert verdict.look_again_at == pytest.approx(100.3, abs=1e-3)


@pytest.mark.proves("difference: A version folder that is still being copied")
@pytest.mark.parametrize("age", [1e9, 0.0, -1e9])
def test_a_folder_that_appeared_takes_two_looks_whatever_the_clock_of_its_storage_says(age: float):
    first = look(folder(age), is_from_the_start=False)
    assert isinstance(first, Settling)
    assert first.look_again_at == 100.5
    assert isinstance(look(folder(age), 100.4, first, is_from_the_start=False), Settling)
    assert look(folder(age), 100.5, first, is_from_the_start=False) == Settled(folder(age))


def test_a_clock_that_is_minutes_behind_does_not_make_what_is_written_at_the_start_old():
    written_now = folder(age=599.0)
    assert isinstance(look(written_now), Settling)


def test_files_that_do_not_change_settle_by_the_second_look_whatever_their_time_stamps():
    from_the_future = folder(age=-3600.0)
    first = look(from_the_future)
    assert isinstance(first, Settling)
    assert isinstance(look(from_the_future, 100.4, first), Settling)
    assert look(from_the_future, 100.5, first) == Settled(from_the_future)


@pytest.mark.parametrize(
    "other", [folder(age=-9.0, size=2), folder(age=-9.1), folder(age=-9.0, name="saved_model.pb2")]
)
def test_a_size_a_time_or_a_name_that_changes_begins_the_wait_anew(other: Snapshot):
    first = look(folder(age=-9.0))
    assert isinstance(first, Settling)
    second = look(other, 100.6, first)
    assert isinstance(second, Settling)
    assert second.since == 100.6


def test_what_was_missing_is_still_said_while_files_change():
    first = look(folder(age=602.0), missing="saved_model.pb is not there")
    assert isinstance(first, Settling)
    second = look(folder(age=-1.0), 101.0, first)
    assert isinstance(second, Settling)
    assert second.reason == "saved_model.pb is not there"


def test_contents_are_not_examined_while_they_change():
    def examine() -> str | None:
        raise AssertionError("examined")

    assert isinstance(settle(folder(age=0.0), None, 100.0, 100.0, WALL, PATIENCE, examine), Settling)


def test_an_incomplete_folder_is_waited_for_and_says_why():
    verdict = look(folder(age=602.0), missing="variables/variables.index is not there")
    assert isinstance(verdict, Settling)
    assert verdict.reason == "variables/variables.index is not there"
    assert verdict.look_again_at == 100.5


def test_an_incomplete_folder_is_taken_as_it_is_after_the_timeout():
    unfinished = folder(age=-9.0)
    first = look(unfinished)
    assert isinstance(first, Settling)
    second = look(unfinished, 129.9, first, missing="it")
    assert isinstance(second, Settling)
    assert look(unfinished, 130.0, second, missing="it") == Settled(unfinished, given_up="it")


def test_an_incomplete_folder_that_was_old_when_first_seen_is_taken_at_once():
    assert look(folder(age=631.0), missing="it") == Settled(folder(age=631.0), given_up="it")


def test_a_folder_that_completes_after_a_long_time_is_whole():
    first = look(folder(age=2.0), missing="it")
    assert isinstance(first, Settling)
    assert look(folder(age=3.0), 150.0, first, missing="it") == Settling(folder(age=3.0), 150.0, 150.5, STILL_CHANGING)
    assert look(folder(age=2.0), 150.0, first) == Settled(folder(age=2.0))


class Reader:
    """Examines folders, and counts how often."""

    def __init__(self, found: Incomplete) -> None:
        self.found = found
        self.times = 0

    def __call__(self) -> Incomplete:
        self.times += 1
        return self.found

    def looks(self, snapshots: list[Snapshot], seconds_apart: float = 5.0) -> list[Settled | Settling]:
        """What comes of looks at a folder that appeared."""
        verdicts: list[Settled | Settling] = []
        for number, snapshot in enumerate(snapshots):
            before = verdicts[-1] if verdicts else None
            assert before is None or isinstance(before, Settling)
            now = number * seconds_apart
            verdicts.append(settle(snapshot, before, now, now, None, PATIENCE, self))
        return verdicts


def test_files_are_not_read_again_while_they_look_the_same():
    reader = Reader(Incomplete("a shard is not there"))
    verdicts = reader.looks([folder(age=0.0)] * 6)
    assert reader.times == 1
    assert {verdict.reason for verdict in verdicts[1:] if isinstance(verdict, Settling)} == {"a shard is not there"}


def test_files_that_change_are_read_again():
    reader = Reader(Incomplete("a shard is not there"))
    reader.looks([folder(age=0.0)] * 3 + [folder(age=0.0, size=2)] * 3)
    assert reader.times == 2


def test_what_could_not_be_read_is_tried_again():
    reader = Reader(Incomplete("it cannot be read", is_lasting=False))
    reader.looks([folder(age=0.0)] * 5)
    assert reader.times == 4


def test_files_that_came_to_rest_within_a_tick_of_a_coarse_clock_are_read_once_more():
    reader = Reader(Incomplete("a shard is not there"))
    reader.looks([folder(age=0.0)] * 10, seconds_apart=0.5)
    assert reader.times == 4


def test_files_without_times_are_read_at_each_look():
    reader = Reader(Incomplete("a shard is not there"))
    reader.looks([Snapshot({"f": FileStat(1, 0)}, {})] * 5)
    assert reader.times == 4


def test_what_would_hang_who_loads_it_is_never_taken():
    reader = Reader(Incomplete("saved_model.pb is neither a file nor a folder", would_hang=True))
    last = reader.looks([folder(age=0.0)] * 20)[-1]
    assert isinstance(last, Settling)
    assert last.is_refused


def test_whole_seconds_are_not_trusted_to_the_second():
    coarse = Snapshot({"f": FileStat(1, int(WALL - 602) * 10**9, 0, 1)}, {})
    assert isinstance(look(coarse), Settling)
    assert isinstance(look(coarse, now=100.5), Settled)


def test_a_copied_files_old_modification_time_does_not_make_it_old():
    preserved = Snapshot({"f": FileStat(1, 10**9, int(WALL * 10**9) - 1, 1)}, {"": 10**9})
    assert isinstance(look(preserved), Settling)


def test_a_version_that_is_a_file_is_taken_at_once():
    file = Snapshot({"": FileStat(1, 0, int(WALL * 10**9), 1)}, {})
    assert look(file) == Settled(file)


def test_a_folder_that_cannot_be_read_waits_for_its_timeout():
    first = look(NOTHING, missing="it cannot be read")
    assert isinstance(first, Settling)
    assert isinstance(look(NOTHING, 129.0, first, missing="it cannot be read"), Settling)
    assert look(NOTHING, 130.0, first, missing="it cannot be read") == Settled(NOTHING, "it cannot be read")


def test_without_a_quiet_time_there_is_still_a_pause_between_looks():
    verdict = settle(folder(age=0.0), None, 100.0, 100.0, None, Patience(quiet_seconds=0.0), lambda: Incomplete("it"))
    assert isinstance(verdict, Settling)
    assert verdict.look_again_at > 100.0


def test_looks_that_take_long_are_as_far_apart_as_quick_ones():
    slow = folder(age=0.0)
    first = settle(slow, None, 100.0, 101.0, None, PATIENCE, lambda: Incomplete("it"))
    assert isinstance(first, Settling)
    assert first.look_again_at == 101.5
    second = settle(slow, first, 101.5, 102.5, None, PATIENCE, lambda: Incomplete("it"))
    assert isinstance(second, Settling)
    assert (second.reason, second.look_again_at) == ("it", 103.0)
    assert settle(slow, first, 101.5, 102.5, None, PATIENCE, lambda: None) == Settled(slow)
