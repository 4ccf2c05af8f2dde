"""Which version of a model to load or unload next: pure functions of what its versions are doing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pyserving.lifecycle.harness import State


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """What a policy sees of one version."""

    version: int
    state: State
    is_aspired: bool


@dataclass(frozen=True, slots=True)
class Load:
    version: int


@dataclass(frozen=True, slots=True)
class Unload:
    version: int


Policy: TypeAlias = Callable[[Sequence[VersionSnapshot]], Load | Unload | None]
"""Asked again after each action until it answers None."""


def availability_preserving(versions: Sequence[VersionSnapshot]) -> Load | Unload | None:
    """Never drops the last ready version while an aspired one is still coming.

    As availability_preserving_policy.cc.
    """
    retired = [v.version for v in versions if v.state is State.READY and not v.is_aspired]
    aspired = [v for v in versions if v.is_aspired]
    is_covered = any(v.state is State.READY for v in aspired)
    if retired and (not aspired or is_covered or len(retired) > 1):
        return Unload(min(retired))
    return _load_newest(versions)


def resource_preserving(versions: Sequence[VersionSnapshot]) -> Load | Unload | None:
    """Never holds an aspired version in memory beside one that is on its way out.

    As resource_preserving_policy.cc.
    """
    unaspired = [v for v in versions if not v.is_aspired]
    retired = [v.version for v in unaspired if v.state is State.READY]
    if retired:
        return Unload(min(retired))
    if any(v.state not in (State.DISABLED, State.ERROR) for v in unaspired):
        return None
    return _load_newest(versions)


def _load_newest(versions: Sequence[VersionSnapshot]) -> Load | None:
    new = [v.version for v in versions if v.is_aspired and v.state is State.NEW]
    return Load(max(new)) if new else None
