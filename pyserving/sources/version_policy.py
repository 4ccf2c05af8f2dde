"""Which names in a base path are versions, and which of them a policy wants. Pure: names in, names out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pyserving import protos

# absl::SimpleAtoi: blanks around, one sign, leading zeros; signed 64-bit.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """FileSystemStoragePathSourceConfig.ServableVersionPolicy as a value; the default is the latest one."""

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    """For `latest`; 0 means 1."""
    versions: tuple[int, ...] = ()
    """For `specific`; none means that no version is wanted."""

    @property
    def names_no_version(self) -> bool:
        return self.kind == "specific" and not self.versions


@dataclass(frozen=True, slots=True)
class MonitoredServable:
    """A model and the folder its versions come from."""

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a policy makes of the names in a base path."""

    names: Mapping[int, str] = field(default_factory=dict)
    """Wanted version to the entry that holds it, in ascending order of versions."""
    missing: tuple[int, ...] = ()
    """Versions that `specific` asks for and nothing holds."""
    duplicates: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Wanted version to the entries passed over because another one has the same number."""


def monitored_servable(model: protos.ModelConfig) -> MonitoredServable:
    """What a ModelConfig asks a source to monitor."""
    return MonitoredServable(model.name, model.base_path, version_policy(model.model_version_policy))


def version_policy(policy: protos.FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> VersionPolicy:
    """None set means the latest one."""
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy("all")
    if choice == "specific":
        return VersionPolicy("specific", versions=tuple(policy.specific.versions))
    return VersionPolicy("latest", num_versions=max(policy.latest.num_versions, 1))


def parse_version(name: str) -> int | None:
    """The version number an entry's whole name spells; None: not a version.

    As absl::SimpleAtoi: ` 7`, `+7`, `-7` and `007` are numbers, `1.0`, `0x1`, `v1` and anything beyond 64 bits are not.
    """
    match = _NUMBER.fullmatch(name)
    if match is None:
        return None
    number = int(match[1])
    return number if number in _INT64 else None


def choose(policy: VersionPolicy, names: Iterable[str], passed_over: Collection[int] = ()) -> Choice:
    """The versions that a policy wants among the entries of a base path.

    `passed_over` are versions to do as if they were not there. Of two entries with one number `all` takes the first in
    sorted order and the others the last, as file_system_storage_path_source.cc does; but `specific` takes plain
    decimals when every version it names has one.
    """
    entries = _entries(names, passed_over)
    wanted = _wanted(policy, entries)
    plain = policy.kind == "specific" and all(str(version) in entries.get(version, ()) for version in wanted)
    chosen = {v: str(v) if plain else entries[v][0 if policy.kind == "all" else -1] for v in wanted if v in entries}
    return Choice(
        names=chosen,
        missing=tuple(version for version in wanted if version not in entries),
        duplicates={
            version: tuple(other for other in entries[version] if other != name)
            for version, name in chosen.items()
            if len(entries[version]) > 1
        },
    )


def _entries(names: Iterable[str], passed_over: Collection[int]) -> dict[int, list[str]]:
    """Version to the names that spell it, in sorted order."""
    entries: dict[int, list[str]] = {}
    for name in sorted(names):
        version = parse_version(name)
        if version is not None and version not in passed_over:
            entries.setdefault(version, []).append(name)
    return entries


def _wanted(policy: VersionPolicy, entries: Mapping[int, object]) -> list[int]:
    if policy.kind == "specific":
        return sorted(set(policy.versions))
    versions = sorted(entries)
    return versions if policy.kind == "all" else versions[-max(policy.num_versions, 1) :]
