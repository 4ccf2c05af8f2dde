"""What a scan has to say to a person: TensorFlow Serving's sentences where it has one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyserving.sources.settling import Settled, Settling
from pyserving.sources.version_policy import Choice, MonitoredServable
from pyserving.types import ServableId

_NAMES_SHOWN = 10
_ACCESS_ERROR = "FileSystemStoragePathSource encountered a filesystem access error: "


class Remark(NamedTuple):
    """A line for the log."""

    level: int
    text: str
    is_event: bool = False
    """Told each time; what is no event is told when it was not so at the scan before."""


def access_problem(servable: MonitoredServable, error: OSError) -> str:
    path = servable.base_path
    if isinstance(error, FileNotFoundError):
        return (
            f"{_ACCESS_ERROR}Could not find base path {path} for servable {servable.name} "
            f"with error NOT_FOUND: {path} not found"
        )
    return f"{_ACCESS_ERROR}Could not list base path {path} for servable {servable.name}: {error.strerror or error}"


def no_versions(servable: MonitoredServable) -> str:
    if servable.policy.names_no_version:
        return f"No specific versions requested for servable {servable.name}."
    return (
        f"No versions of servable {servable.name} found under base path {servable.base_path}. "
        "Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )


def silence(servable: MonitoredServable, seconds: float) -> str:
    return (
        f"{_ACCESS_ERROR}Could not list base path {servable.base_path} for servable {servable.name}: "
        f"no answer from the storage within {seconds:g} s"
    )


def refused(servable: MonitoredServable, versions: Mapping[int, Settling]) -> str:
    """Of versions that would harm who loads them."""
    return "; ".join(
        f"Refusing to load servable version {ServableId(servable.name, version)}: {verdict.reason}"
        for version, verdict in versions.items()
    )


def refusal(servable: MonitoredServable) -> str:
    return f"Refusing to unload all versions for Servable: {servable.name}"


def about_names(servable: MonitoredServable, ignored: Sequence[str], choice: Choice) -> list[Remark]:
    """Of folders that are no versions, versions that are missed and versions that are there twice."""
    remarks = []
    if ignored:
        more = f" and {len(ignored) - _NAMES_SHOWN} more" if len(ignored) > _NAMES_SHOWN else ""
        text = f"Not version numbers, ignored in base path {servable.base_path} of servable {servable.name}: "
        remarks.append(Remark(logging.INFO, text + ", ".join(ignored[:_NAMES_SHOWN]) + more))
    for version in choice.missing:
        text = (
            f"Version {version} of servable {servable.name}, which was requested to be served as a 'specific' version "
            "in the servable's version policy, was not found in the file system"
        )
        remarks.append(Remark(logging.WARNING, text))
    for version, names in choice.duplicates.items():
        text = (
            f"Duplicate version directories detected. Version {version} of servable {servable.name} "
            f"will be loaded from {choice.names[version]}, {', '.join(names)} will be ignored"
        )
        remarks.append(Remark(logging.WARNING, text))
    return remarks


def about_new(
    servable: MonitoredServable, settling: Mapping[int, Settling], settled: Mapping[int, Settled]
) -> list[Remark]:
    """Of new versions that are waited for or refused, and of those whose time is up."""
    waiting = [
        Remark(logging.WARNING, refused(servable, {version: verdict}))
        if verdict.is_refused
        else Remark(
            logging.INFO, f"Waiting for servable version {ServableId(servable.name, version)}: {verdict.reason}"
        )
        for version, verdict in settling.items()
    ]
    taken = [
        Remark(
            logging.WARNING,
            f"Servable version {ServableId(servable.name, version)} stays incomplete and is taken as it is: "
            f"{verdict.given_up}",
        )
        for version, verdict in settled.items()
        if verdict.given_up is not None
    ]
    return waiting + taken


def about_changed(servable: MonitoredServable, changed: Mapping[int, Settled]) -> list[Remark]:
    """Of aspired versions whose files are not what they were."""
    remarks = []
    for version, verdict in changed.items():
        text = f"Files of servable version {ServableId(servable.name, version)} changed under the same number"
        if verdict.given_up is not None:
            text += f" and stay incomplete: {verdict.given_up}"
        remarks.append(Remark(logging.WARNING, text, is_event=True))
    return remarks
