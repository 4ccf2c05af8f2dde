"""Labels follow their versions."""

from __future__ import annotations

import pytest

from pyserving.lifecycle.labels import VersionLabels


@pytest.fixture
def available() -> dict[str, set[int]]:
    return {"m": {1}}


def labels_over(available: dict[str, set[int]], **options: bool) -> VersionLabels:
    return VersionLabels(lambda name: available.get(name, set()), **options)


def test_nothing_is_known_before_a_config(available: dict[str, set[int]]) -> None:
    labels = labels_over(available)
    assert not labels.is_initialised
    assert labels.version("m", "stable") is None


def test_a_label_answers_once_its_version_is_available(available: dict[str, set[int]]) -> None:
    labels = labels_over(available)
    labels.wish({"m": {"stable": 1, "canary": 2}})
    assert labels.version("m", "stable") == 1
    assert labels.version("m", "canary") is None
    assert labels.waiting() == [("m", "canary", 2)]
    available["m"].add(2)
    labels.apply()
    assert labels.version("m", "canary") == 2
    assert labels.waiting() == []


def test_a_moved_label_keeps_the_old_version_until_the_new_one_is_there(available: dict[str, set[int]]) -> None:
    labels = labels_over(available)
    labels.wish({"m": {"stable": 1}})
    labels.wish({"m": {"stable": 2}})
    assert labels.version("m", "stable") == 1
    available["m"] = {2}
    labels.apply()
    assert labels.version("m", "stable") == 2


def test_a_label_stays_when_its_version_is_unloaded(available: dict[str, set[int]]) -> None:
    labels = labels_over(available)
    labels.wish({"m": {"stable": 1}})
    available["m"].clear()
    labels.apply()
    assert labels.version("m", "stable") == 1


def test_a_new_wish_replaces_the_whole_table(available: dict[str, set[int]]) -> None:
    labels = labels_over(available)
    labels.wish({"m": {"stable": 1}, "n": {}})
    labels.wish({"n": {}})
    assert labels.version("m", "stable") is None


def test_with_the_flag_a_new_label_may_name_an_unavailable_version(available: dict[str, set[int]]) -> None:
    labels = labels_over(available, allow_unavailable=True)
    labels.wish({"m": {"canary": 7}})
    assert labels.version("m", "canary") == 7
    labels.wish({"m": {"canary": 8}})
    assert labels.version("m", "canary") == 7, "moving an existing label still waits for its version"


@pytest.mark.parametrize("allow_unavailable", [False, True])
def test_a_label_whose_version_went_waits_for_it_unless_that_is_allowed(
    available: dict[str, set[int]], allow_unavailable: bool
) -> None:
    labels = labels_over(available, allow_unavailable=allow_unavailable)
    labels.wish({"m": {"stable": 1}})
    available["m"].clear()
    assert labels.version("m", "stable") == 1
    assert labels.waiting() == ([] if allow_unavailable else [("m", "stable", 1)])


def test_several_labels_may_share_a_version(available: dict[str, set[int]]) -> None:
    labels = labels_over(available)
    labels.wish({"m": {"stable": 1, "": 1}})
    assert labels.version("m", "stable") == labels.version("m", "") == 1
