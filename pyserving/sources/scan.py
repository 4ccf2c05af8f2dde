"""One look at the base paths: what is there, what of it is wanted and whole, and what changed since the last look.

Plain functions of what was known before, run in a worker thread; what they give back is all that anybody remembers.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pyserving.sources import remarks
from pyserving.sources.completeness import Incomplete, why_incomplete
from pyserving.sources.remarks import Remark
from pyserving.sources.settling import Patience, Settled, Settling, settle
from pyserving.sources.snapshot import NOTHING, Snapshot, is_replaced, is_untouched, take_snapshot
from pyserving.sources.storage import LOCAL, Storage, local_path
from pyserving.sources.version_policy import Choice, MonitoredServable, choose, parse_version
from pyserving.types import AspiredVersion, ServableId


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every model alike."""

    patience: Patience = field(default_factory=Patience)
    versions_always_present: bool = True
    """Keep the last versions rather than none."""
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    """Seconds since the epoch, to compare with time stamps of files."""
    storage: Storage = LOCAL
    prefer_tflite_model: bool = False
    """A `model.tflite` is what of a folder is loaded, whatever else there is."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """How the folder of an aspired version looked when it was taken."""

    path: str
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of one model between two scans."""

    aspired: Mapping[int, Footprint] = field(default_factory=dict)
    settling: Mapping[int, Settling] = field(default_factory=dict)
    """New versions that are waited for."""
    changing: Mapping[int, Settling] = field(default_factory=dict)
    """Aspired versions whose files are changing."""
    base_path: str | None = None
    """Where the scan before looked; None: nobody knows yet what is there."""
    from_the_start: frozenset[str] = frozenset()
    """Names in that base path that were there at the first scan of it and ever since."""

    @property
    def look_again_at(self) -> float | None:
        """When a folder that is waited for is due, on the monotonic clock."""
        waiting = [*self.settling.values(), *self.changing.values()]
        return min((folder.look_again_at for folder in waiting), default=None)


@dataclass(frozen=True, slots=True)
class Report:
    """What a scan found out about one model."""

    servable: MonitoredServable
    known: Known
    versions: tuple[AspiredVersion, ...] | None = None
    """In ascending order; None: nothing is to change."""
    problem: str | None = None
    """Why nothing is to change, when it is not only that new versions are waited for."""
    changed: tuple[int, ...] = ()
    """Aspired versions whose files changed, and are whole and quiet again."""
    remarks: tuple[Remark, ...] = ()


def scan_servable(servable: MonitoredServable, known: Known, rules: Rules) -> Report:
    """A base path that cannot be listed, or has no version any more, changes nothing; it is never raised."""
    try:
        listing = _list_base_path(servable, rules.storage)
    except FileNotFoundError as error:
        known = Known(known.aspired, base_path=servable.base_path)
        return _unchanged(servable, known, remarks.access_problem(servable, error))
    except OSError as error:
        return _unchanged(servable, _at_rest(known), remarks.access_problem(servable, error))
    known = _with_names(known, servable, listing.names)
    choice, settled, settling = _choose_settled(servable, known, listing.names, rules)
    said = remarks.about_names(servable, listing.ignored, choose(servable.policy, listing.names))
    said += remarks.about_new(servable, settling, settled)
    if not choice.names and settling:
        is_refused = all(verdict.is_refused for verdict in settling.values())
        problem = remarks.refused(servable, settling) if is_refused else None
        known = replace(known, settling=settling, changing={})
        return Report(servable, known, problem=problem, remarks=tuple(said))
    if not choice.names and _is_accident(servable, known, rules):
        return _unchanged(servable, _at_rest(known), remarks.no_versions(servable), said)
    if not choice.names:
        said.append(Remark(logging.WARNING, remarks.no_versions(servable)))
    paths = {version: version_path(servable.base_path, name) for version, name in choice.names.items()}
    aspired, changing, changed = _look_at_aspired(paths, known, settled, rules)
    said += remarks.about_changed(servable, changed)
    return Report(
        servable,
        replace(known, aspired=aspired, settling=settling, changing=changing),
        versions=tuple(AspiredVersion(ServableId(servable.name, version), path) for version, path in paths.items()),
        changed=tuple(version for version, verdict in changed.items() if verdict.given_up is None),
        remarks=tuple(said),
    )


def silence(servable: MonitoredServable, known: Known, seconds: float) -> Report:
    """What is to be said while a scan does not come back: nothing changes."""
    return _unchanged(servable, known, remarks.silence(servable, seconds))


def version_path(base_path: str, name: str) -> str:
    """The folder of a version, its name as found."""
    return os.path.join(local_path(base_path), name)


class _Listing(NamedTuple):
    names: Sequence[str]
    ignored: Sequence[str]
    """Folders whose names are no version numbers."""


def _list_base_path(servable: MonitoredServable, storage: Storage) -> _Listing:
    path = local_path(servable.base_path)
    # As file_system_storage_path_source.cc: nothing is listed when every version asked for is there.
    plain = [str(version) for version in servable.policy.versions]
    if plain and all(_exists(storage, os.path.join(path, name)) for name in plain):
        return _Listing(plain, ())
    names = storage.list(path)
    versions = [name for name in names if parse_version(name) is not None]
    others = set(names).difference(versions)
    folders = [name for name in others if not name.startswith(".") and _is_folder(storage, os.path.join(path, name))]
    return _Listing(versions, sorted(folders))


def _exists(storage: Storage, path: str) -> bool:
    try:
        storage.stat(path)
    except OSError:
        return False
    return True


def _is_folder(storage: Storage, path: str) -> bool:
    try:
        return storage.stat(path).is_folder
    except OSError:
        return False


def _choose_settled(
    servable: MonitoredServable, known: Known, names: Sequence[str], rules: Rules
) -> tuple[Choice, dict[int, Settled], dict[int, Settling]]:
    """Apply the policy to versions that are aspired already or whole. Only versions that it wants are looked at."""
    settled: dict[int, Settled] = {}
    settling: dict[int, Settling] = {}
    began = rules.monotonic()
    while True:
        choice = choose(servable.policy, names, passed_over=settling)
        new = [version for version in choice.names if version not in known.aspired and version not in settled]
        if not new:
            return choice, settled, settling
        for version in new:
            path = version_path(servable.base_path, choice.names[version])
            wall = rules.wall() if choice.names[version] in known.from_the_start else None
            verdict = _look(path, known.settling.get(version), began, wall, rules)
            if isinstance(verdict, Settling):
                settling[version] = verdict
            else:
                settled[version] = verdict


def _look(path: str, before: Settling | None, began: float, wall: float | None, rules: Rules) -> Settled | Settling:
    """`began` is when all of a scan did. `wall` is our time where the time stamps of the files count, else None."""
    unreadable = None
    try:
        snapshot = take_snapshot(path, rules.storage)
    except OSError as error:
        snapshot, unreadable = NOTHING, Incomplete(f"it cannot be read: {error.strerror}", is_lasting=False)
    return settle(
        snapshot,
        before,
        began,
        rules.monotonic(),
        wall,
        rules.patience,
        lambda: (
            unreadable or why_incomplete(path, snapshot, rules.storage, prefer_tflite_model=rules.prefer_tflite_model)
        ),
    )


def _look_at_aspired(
    paths: Mapping[int, str], known: Known, settled: Mapping[int, Settled], rules: Rules
) -> tuple[dict[int, Footprint], dict[int, Settling], dict[int, Settled]]:
    """Footprints of all wanted versions; which of them are changing; which changed."""
    aspired: dict[int, Footprint] = {}
    changing: dict[int, Settling] = {}
    changed: dict[int, Settled] = {}
    began = rules.monotonic()
    for version, path in paths.items():
        if version in settled:
            aspired[version] = Footprint(path, settled[version].snapshot)
            continue
        footprint, before = known.aspired[version], known.changing.get(version)
        aspired[version], verdict = _look_for_change(path, footprint, before, began, rules)
        if isinstance(verdict, Settling):
            changing[version] = verdict
        elif verdict is not None:
            changed[version] = verdict
    return aspired, changing, changed


def _look_for_change(
    path: str, footprint: Footprint, before: Settling | None, began: float, rules: Rules
) -> tuple[Footprint, Settled | Settling | None]:
    """The footprint to remember, and what to think of the change; None: there is none."""
    if path == footprint.path and is_untouched(path, footprint.snapshot, rules.storage):
        return footprint, None
    try:
        snapshot = take_snapshot(path, rules.storage)
    except OSError:
        return footprint, None  # on its way out or out of reach: nothing to go by
    # A version of that number in another base path is not loaded again: it changed nothing.
    if path != footprint.path or not is_replaced(footprint.snapshot, snapshot):
        return Footprint(path, snapshot), None
    verdict = _look(path, before, began, None, rules)
    return (footprint, verdict) if isinstance(verdict, Settling) else (Footprint(path, verdict.snapshot), verdict)


def _is_accident(servable: MonitoredServable, known: Known, rules: Rules) -> bool:
    """Whether an empty set of versions is anything but the operator's wish."""
    return not servable.policy.names_no_version and (rules.versions_always_present or not known.aspired)


def _with_names(known: Known, servable: MonitoredServable, names: Sequence[str]) -> Known:
    """What is there from the start, once `names` were found in the base path."""
    is_first = known.base_path != servable.base_path
    stayed = frozenset(names) if is_first else known.from_the_start.intersection(names)
    return replace(known, base_path=servable.base_path, from_the_start=stayed)


def _at_rest(known: Known) -> Known:
    return replace(known, settling={}, changing={})


def _unchanged(servable: MonitoredServable, known: Known, problem: str, said: Sequence[Remark] = ()) -> Report:
    warnings = [problem, remarks.refusal(servable)] if known.aspired else [problem]
    said = [*said, *(Remark(logging.WARNING, text) for text in warnings)]
    return Report(servable, known, problem=problem, remarks=tuple(said))
