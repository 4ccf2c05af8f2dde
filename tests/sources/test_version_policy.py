from __future__ import annotations

import pytest

from pyserving import protos
from pyserving.sources.version_policy import (
    MonitoredServable,
    VersionPolicy,
    choose,
    monitored_servable,
    parse_version,
    version_policy,
)

LATEST, ALL = VersionPolicy(), VersionPolicy("all")


def specific(*versions: int) -> VersionPolicy:
    return VersionPolicy("specific", versions=versions)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("00000123", 123),
        ("00", 0),
        (" 7", 7),
        ("7\t\n", 7),
        ("+5", 5),
        ("-3", -3),
        ("20170111173521", 20170111173521),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("", None),
        (" ", None),
        ("+", None),
        ("+-1", None),
        ("- 1", None),
        ("1 2", None),
        ("1.0", None),
        ("1e3", None),
        ("0x1", None),
        ("1_", None),
        ("1_000", None),
        ("v1", None),
        ("tmp", None),
        ("2.denied", None),
        ("\u0663", None),  # a digit to Python, not to SimpleAtoi
        ("1\u00a0", None),
    ],
)
def test_a_version_is_a_name_that_is_all_number(name, version):
    assert parse_version(name) == version


@pytest.mark.proves(
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.latest",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.all",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.specific",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest.num_versions",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific.versions",
)
@pytest.mark.parametrize(
    ("policy", "names", "chosen"),
    [
        (LATEST, ["1", "3", "2"], {3: "3"}),
        (LATEST, ["2", "10"], {10: "10"}),
        (LATEST, ["-1", "-2"], {-1: "-1"}),
        (LATEST, [], {}),
        (LATEST, ["tmp", "v2"], {}),
        (VersionPolicy(num_versions=0), ["1", "2"], {2: "2"}),
        (VersionPolicy(num_versions=2), ["1", "2", "3"], {2: "2", 3: "3"}),
        (VersionPolicy(num_versions=5), ["1", "2"], {1: "1", 2: "2"}),
        (ALL, ["3", "1", "x"], {1: "1", 3: "3"}),
        (specific(1, 3), ["1", "2", "3"], {1: "1", 3: "3"}),
        (specific(1, 1), ["1"], {1: "1"}),
        (specific(7), ["007"], {7: "007"}),
        (specific(9), ["1"], {}),
        (specific(), ["1"], {}),
    ],
)
def test_a_policy_chooses(policy, names, chosen):
    assert choose(policy, names).names == chosen


def test_versions_come_in_ascending_order():
    assert list(choose(VersionPolicy(num_versions=3), ["10", "9", "2", "1"]).names) == [2, 9, 10]


@pytest.mark.parametrize(
    ("policy", "names", "chosen", "ignored"),
    [
        (LATEST, ["01", "1", "001"], "1", ("001", "01")),
        (ALL, ["1", "01", "001"], "001", ("01", "1")),
        (specific(1), ["1", "01"], "1", ("01",)),
        (specific(1), ["1", "1 "], "1", ("1 ",)),
        (specific(1, 2), ["1", "1 ", "02"], "1 ", ("1",)),  # not all are plain, so the last in sorted order
    ],
)
def test_one_of_two_names_for_a_number_is_chosen(policy, names, chosen, ignored):
    choice = choose(policy, names)
    assert choice.names[1] == chosen
    assert choice.duplicates == {1: ignored}


def test_duplicates_of_versions_that_are_not_wanted_go_unmentioned():
    assert choose(LATEST, ["1", "01", "2"]).duplicates == {}


def test_specific_versions_that_are_not_there_are_named():
    assert choose(specific(1, 2, 5), ["2"]).missing == (1, 5)


def test_versions_passed_over_are_as_if_not_there():
    assert choose(LATEST, ["1", "2", "02"], passed_over={2}).names == {1: "1"}


@pytest.mark.proves(
    "field ModelConfig.model_version_policy",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.latest",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.all",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.specific",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest.num_versions",
    "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific.versions",
)
def test_policies_come_from_the_configuration():
    policy_proto = protos.FileSystemStoragePathSourceConfig.ServableVersionPolicy
    assert version_policy(policy_proto()) == LATEST
    assert version_policy(policy_proto(latest={})) == LATEST
    assert version_policy(policy_proto(latest={"num_versions": 3})) == VersionPolicy("latest", 3)
    assert version_policy(policy_proto(all={})) == ALL
    assert version_policy(policy_proto(specific={"versions": [4, 2]})) == specific(4, 2)
    assert version_policy(policy_proto(specific={})).names_no_version


def test_a_model_config_says_what_to_monitor():
    model = protos.ModelConfig(name="m", base_path="/models/m", model_version_policy={"all": {}})
    assert monitored_servable(model) == MonitoredServable("m", "/models/m", ALL)
