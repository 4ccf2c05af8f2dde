from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

import pytest

from pyserving.sources.scan import Known, Report, Rules, scan_servable
from pyserving.sources.settling import STILL_CHANGING, Patience
from pyserving.sources.version_policy import MonitoredServable, VersionPolicy
from tests.sources.saved_models import DATA, INDEX, saved_model, with_variables, write

ALL = VersionPolicy("all")


class Scans:
    """Scans one model again and again, remembering what a source would. Files are an hour old unless made young."""

    def __init__(self, base_path: Path) -> None:
        self.base_path = base_path
        self.policy = VersionPolicy()
        self.known = Known()
        self.always_present = True
        self.now = 0.0
        self.seconds_of_a_look = 0.0
        self._wall = time.time() + 3600.0

    def young(self) -> None:
        """From now on only waiting makes a file quiet."""
        self._wall = 0.0

    def __call__(self, after: float = 1.0) -> Report:
        self.now += after
        rules = Rules(Patience(0.5, 30.0), self.always_present, self._monotonic, lambda: self._wall)
        report = scan_servable(MonitoredServable("m", str(self.base_path), self.policy), self.known, rules)
        self.known = report.known
        return report

    def _monotonic(self) -> float:
        self.now += self.seconds_of_a_look
        return self.now


@pytest.fixture
def scans(tmp_path: Path) -> Scans:
    return Scans(tmp_path / "base")


def add(scans: Scans, *names: str) -> None:
    for name in names:
        write(scans.base_path / name, with_variables())


def versions(report: Report) -> dict[int, str] | None:
    if report.versions is None:
        return None
    return {wanted.id.version: os.path.basename(wanted.path) for wanted in report.versions}


def said(report: Report, level: int = logging.INFO) -> str:
    return "\n".join(remark.text for remark in report.remarks if remark.level >= level)


def test_a_whole_version_is_wanted_at_the_first_scan(scans):
    add(scans, "1", "2")
    report = scans()
    assert versions(report) == {2: "2"}
    assert report.versions[0].path == str(scans.base_path / "2")
    assert (report.problem, report.remarks) == (None, ())


def test_an_older_version_is_never_quiet_before_a_newer_one_that_a_scan_looked_at_first(scans):
    """Looking takes time. Copied together, one that is looked at later would seem to rest for longer."""
    scans.young()
    add(scans, "1", "2")
    assert scans().versions is None
    scans.seconds_of_a_look = 0.05
    assert scans(0.41).versions is None
    assert versions(scans(0.2)) == {2: "2"}


def test_a_name_is_kept_as_found_and_a_file_scheme_left_out(scans):
    add(scans, "007")
    servable = MonitoredServable("m", f"file://{scans.base_path}/")
    report = scan_servable(servable, Known(), Rules(wall=lambda: time.time() + 3600.0))
    assert report.versions[0].path == f"{scans.base_path}/007"
    assert report.versions[0].id.version == 7


def test_folders_that_are_no_versions_are_named(scans):
    add(scans, "1", "tmp", ".git", "v2")
    (scans.base_path / "README").write_text("no folder")
    assert said(scans()).endswith("of servable m: tmp, v2")


def test_many_folders_that_are_no_versions_are_counted(scans):
    add(scans, *(f"x{i:02d}" for i in range(13)))
    assert "x09 and 3 more" in said(scans())


def test_two_names_for_a_version_are_warned_of(scans):
    add(scans, "1", "01")
    report = scans()
    assert versions(report) == {1: "1"}
    assert said(report) == (
        "Duplicate version directories detected. Version 1 of servable m will be loaded from 1, 01 will be ignored"
    )


def test_specific_versions_that_are_missing_are_warned_of(scans):
    scans.policy = VersionPolicy("specific", versions=(1, 4))
    add(scans, "1", "2")
    report = scans()
    assert versions(report) == {1: "1"}
    assert said(report, logging.WARNING).startswith("Version 4 of servable m, which was requested to be served as a 's")


def test_specific_versions_need_no_listing(scans):
    scans.policy = VersionPolicy("specific", versions=(1,))
    add(scans, "1", "not-a-version")
    assert scans().remarks == ()


def test_specific_without_versions_unloads_everything(scans):
    add(scans, "1")
    scans()
    scans.policy = VersionPolicy("specific")
    report = scans()
    assert versions(report) == {}
    assert said(report) == "No specific versions requested for servable m."


def test_a_version_that_is_a_file_is_wanted_at_once(scans):
    scans.young()
    scans.base_path.mkdir()
    (scans.base_path / "7").write_text("no folder")
    assert versions(scans()) == {7: "7"}


def test_a_linked_version_is_a_version(scans, tmp_path):
    write(tmp_path / "exports" / "a", with_variables())
    scans.base_path.mkdir()
    (scans.base_path / "3").symlink_to(tmp_path / "exports" / "a")
    assert versions(scans()) == {3: "3"}


def test_a_read_only_base_path_is_served(scans):
    add(scans, "1")
    for folder in (scans.base_path / "1", scans.base_path):
        folder.chmod(0o555)
    assert versions(scans()) == {1: "1"}
    for folder in (scans.base_path, scans.base_path / "1"):
        folder.chmod(0o755)


# What is not complete yet


def test_a_young_version_is_wanted_once_it_kept_quiet(scans):
    scans.young()
    add(scans, "1")
    report = scans()
    assert report.versions is None
    assert said(report) == f"Waiting for servable version {{name: m version: 1}}: {STILL_CHANGING}"
    assert report.known.look_again_at == scans.now + 0.5
    assert versions(scans(0.5)) == {1: "1"}


@pytest.mark.proves("difference: A version folder that is still being copied")
@pytest.mark.parametrize("order", [0, 1])
def test_a_version_copied_file_by_file_is_wanted_when_the_last_file_is_whole(scans, order):
    scans.young()
    add(scans, "1")
    scans()
    scans()
    parts = list(with_variables(b"0123456789").items())
    (scans.base_path / "2").mkdir()
    assert versions(scans()) == {1: "1"}
    for name, content in parts if order else reversed(parts):
        for part in (content[: len(content) // 2], content):
            write(scans.base_path / "2", {name: part})
            assert versions(scans()) == {1: "1"}
            if (name, part) != (list(parts)[-1 if order else 0][0], content):
                assert versions(scans()) == {1: "1"}
                assert said(scans()).startswith("Waiting for servable version {name: m version: 2}: ")
    assert versions(scans()) == {2: "2"}


def test_the_policy_applies_to_whole_versions_while_the_newest_is_not(scans):
    scans.policy = VersionPolicy(num_versions=2)
    add(scans, "1", "2", "3")
    (scans.base_path / "3" / "saved_model.pb").unlink()
    scans.young()
    scans()
    assert versions(scans()) == {1: "1", 2: "2"}


def test_a_version_being_waited_for_keeps_the_last_one_that_went(scans):
    add(scans, "1")
    scans()
    scans.young()
    (scans.base_path / "1").rename(scans.base_path / "2")
    report = scans()
    assert report.versions is None
    assert report.problem is None
    assert list(report.known.aspired) == [1]
    assert versions(scans()) == {2: "2"}


def test_a_version_that_appears_is_wanted_at_the_second_look_however_old_its_files_claim_to_be(scans):
    add(scans, "1")
    assert versions(scans()) == {1: "1"}
    add(scans, "2")
    assert versions(scans()) == {1: "1"}
    assert versions(scans(0.5)) == {2: "2"}


def test_a_version_in_a_base_path_that_appears_is_wanted_at_the_second_look(scans):
    assert scans().problem is not None
    add(scans, "1")
    assert scans().versions is None
    assert versions(scans()) == {1: "1"}


def test_a_version_that_was_there_from_the_start_is_wanted_at_the_first_look_also_later(scans):
    add(scans, "1", "2")
    scans()
    scans.policy = ALL
    assert versions(scans()) == {1: "1", 2: "2"}


def test_a_version_that_went_and_came_back_is_new(scans):
    add(scans, "1", "2")
    scans()
    (scans.base_path / "2").rename(scans.base_path / "away")
    scans()
    (scans.base_path / "away").rename(scans.base_path / "2")
    assert [versions(scans()), versions(scans())] == [{1: "1"}, {2: "2"}]


def test_another_base_path_is_begun_with_anew(scans, tmp_path):
    add(scans, "1")
    scans()
    scans.base_path = tmp_path / "other"
    add(scans, "5")
    assert versions(scans()) == {5: "5"}


@pytest.mark.proves("difference: A pipe, socket or device in a version folder")
def test_a_version_that_is_a_trap_is_refused_for_good_and_is_the_models_problem(scans):
    write(scans.base_path / "1", {})
    os.mkfifo(scans.base_path / "1" / "saved_model.pb")
    refused = "Refusing to load servable version {name: m version: 1}: saved_model.pb is neither a file nor a folder"
    for report in (scans(), scans(), scans(1000.0)):
        assert (report.versions, report.problem) == (None, refused)
        assert said(report, logging.WARNING) == refused


def test_a_trap_beside_a_good_version_is_only_warned_of_until_it_is_mended(scans):
    add(scans, "1", "2")
    (scans.base_path / "2" / "saved_model.pb").unlink()
    os.mkfifo(scans.base_path / "2" / "saved_model.pb")
    report = scans()
    assert (versions(report), report.problem) == ({1: "1"}, None)
    assert said(report, logging.WARNING).startswith("Refusing to load servable version {name: m version: 2}")
    (scans.base_path / "2" / "saved_model.pb").unlink()
    add(scans, "2")
    assert versions(scans()) == {2: "2"}


def test_only_versions_that_the_policy_wants_are_looked_at(scans):
    add(scans, "2")
    write(scans.base_path / "1", {"nothing": b"yet"})
    assert scans().known.settling == {}


@pytest.mark.proves("difference: A version folder that is still being copied")
def test_an_incomplete_version_is_wanted_as_it_is_after_the_timeout(scans):
    scans.young()
    write(scans.base_path / "1", {"saved_model.pb": saved_model(["VarHandleOp"])})
    assert scans().versions is None
    assert said(scans(29.0)).endswith("}: variables/variables.index is not there")
    report = scans(1.0)
    assert versions(report) == {1: "1"}
    assert said(report) == (
        "Servable version {name: m version: 1} stays incomplete and is taken as it is: "
        "variables/variables.index is not there"
    )
    assert scans().remarks == ()


def test_a_version_that_vanishes_while_waited_for_is_forgotten(scans):
    scans.young()
    add(scans, "1", "2")
    scans()
    shutil.rmtree(scans.base_path / "2")
    scans()
    assert list(scans.known.settling) == []
    assert list(scans.known.aspired) == [1]


# Storage that is not there


def test_a_base_path_that_was_never_there_is_a_problem(scans):
    report = scans()
    path = scans.base_path
    assert report.versions is None
    assert report.problem == (
        "FileSystemStoragePathSource encountered a filesystem access error: "
        f"Could not find base path {path} for servable m with error NOT_FOUND: {path} not found"
    )
    assert said(report, logging.WARNING) == report.problem


def test_a_base_path_without_versions_is_a_problem(scans):
    scans.base_path.mkdir()
    report = scans()
    assert report.versions is None
    assert report.problem == (
        f"No versions of servable m found under base path {scans.base_path}. "
        "Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )


def test_a_base_path_that_vanishes_empties_or_becomes_a_file_keeps_its_versions(scans):
    add(scans, "1")
    scans()
    away = scans.base_path.with_name("away")
    for take_away in (
        lambda: scans.base_path.rename(away),
        lambda: scans.base_path.mkdir(),
        lambda: (scans.base_path.rmdir(), scans.base_path.write_text("a file")),
    ):
        take_away()
        report = scans()
        assert report.versions is None
        assert report.problem is not None
        assert said(report).endswith("Refusing to unload all versions for Servable: m")
        assert list(report.known.aspired) == [1]
    scans.base_path.unlink()
    away.rename(scans.base_path)
    report = scans()
    assert (versions(report), report.problem, report.changed) == ({1: "1"}, None, ())


def test_specific_versions_that_are_all_missing_keep_the_last_ones(scans):
    add(scans, "1")
    scans()
    scans.policy = VersionPolicy("specific", versions=(9,))
    report = scans()
    assert report.versions is None
    assert "Version 9 of servable m" in said(report)


def test_versions_may_all_go_when_they_need_not_be_present(scans):
    scans.always_present = False
    add(scans, "1")
    scans()
    shutil.rmtree(scans.base_path / "1")
    report = scans()
    assert versions(report) == {}
    assert said(report).startswith("No versions of servable m found")
    assert scans().versions is None


def test_a_missing_base_path_keeps_its_versions_even_when_they_need_not_be_present(scans):
    scans.always_present = False
    add(scans, "1")
    scans()
    shutil.rmtree(scans.base_path)
    assert scans().versions is None


# Files that change under a version that is wanted


def test_a_version_replaced_in_place_is_told_when_it_is_whole_and_quiet(scans):
    add(scans, "1", "2")
    scans()
    scans.young()
    (scans.base_path / "2" / INDEX).unlink()
    write(scans.base_path / "2", {DATA: b"other weights"})
    assert [scans().changed, scans().changed] == [(), ()]
    assert scans().versions is not None
    write(scans.base_path / "2", with_variables(b"other weights"))
    assert scans().changed == ()
    report = scans()
    assert report.changed == (2,)
    assert said(report) == "Files of servable version {name: m version: 2} changed under the same number"
    assert (scans().changed, scans().remarks) == ((), ())


def test_a_version_that_is_replaced_is_told_at_the_second_look_whatever_its_time_stamps(scans):
    add(scans, "1")
    scans()
    write(scans.base_path / "1", with_variables(b"other weights"))
    assert [scans().changed, scans().changed] == [(), (1,)]


def test_a_version_that_was_taken_incomplete_is_told_when_it_is_mended(scans):
    write(scans.base_path / "1", {"saved_model.pb": saved_model(["VarHandleOp"])})
    assert versions(scans()) == {1: "1"}
    write(scans.base_path / "1", with_variables())
    assert [scans().changed, scans().changed] == [(), (1,)]


def test_a_version_that_is_broken_in_place_is_only_warned_of(scans):
    add(scans, "1")
    scans()
    (scans.base_path / "1" / DATA).unlink()
    scans()
    report = scans(31.0)
    assert report.changed == ()
    assert said(report, logging.WARNING).endswith(
        f"changed under the same number and stay incomplete: {DATA} is not there"
    )
    assert scans().remarks == ()


def test_files_that_do_not_count_are_no_change(scans):
    add(scans, "1")
    scans()
    write(scans.base_path / "1", {"__pycache__/model.pyc": b"code", ".lock": b""})
    report = scans()
    assert (report.changed, report.remarks) == ((), ())


def test_the_same_number_in_another_base_path_is_no_change(scans, tmp_path):
    add(scans, "1")
    scans()
    scans.base_path = tmp_path / "other"
    add(scans, "1")
    report = scans()
    assert report.versions[0].path == str(tmp_path / "other" / "1")
    assert report.changed == ()
    write(scans.base_path / "1", {"saved_model.pb": saved_model(["VarHandleOp", "Const"])})
    assert [scans().changed, scans().changed] == [(), (1,)]


def test_a_version_that_becomes_a_folder_is_a_change(scans):
    scans.base_path.mkdir()
    (scans.base_path / "1").write_text("no folder")
    scans()
    (scans.base_path / "1").unlink()
    add(scans, "1")
    assert [scans().changed, scans().changed] == [(), (1,)]


def test_versions_behind_a_swapped_link_come_and_go(scans):
    write(scans.base_path / "..rev1" / "1", with_variables())
    write(scans.base_path / "..rev2" / "2", with_variables())
    (scans.base_path / "..data").symlink_to("..rev1")
    for name in ("1", "2"):
        (scans.base_path / name).symlink_to(f"..data/{name}")
    scans.policy = ALL
    scans.young()
    scans()
    assert versions(scans()) == {1: "1"}
    (scans.base_path / "..new").symlink_to("..rev2")
    os.replace(scans.base_path / "..new", scans.base_path / "..data")
    scans()
    assert 2 in versions(scans())


def test_unchanged_versions_are_not_opened_again(scans):
    add(scans, "1")
    scans()
    pb = scans.base_path / "1" / "saved_model.pb"
    read_before = pb.stat().st_atime_ns
    os.utime(pb, ns=(1, pb.stat().st_mtime_ns))
    assert read_before != 1
    assert scans().changed == ()  # a change of times alone makes it list the folder, not read the file
    assert pb.stat().st_atime_ns == 1
