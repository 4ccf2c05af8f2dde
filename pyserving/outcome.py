"""What has become of a configured model, decided from what is known of its versions: pure, time-free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from pyserving.errors import NotFound, ServingError
from pyserving.types import ManagerState, ServableState


class Fate(Enum):
    """The ways a wish for a model can stand."""

    PENDING = "pending"
    """A version is on its way."""
    AVAILABLE = "available"
    """A version answers."""
    FAILED = "failed"
    """Every version's last load attempt failed; retries may go on."""
    EMPTY = "empty"
    """Storage has no version for it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model's fate and, where it is a sad one, the reason."""

    name: str
    fate: Fate
    version: int | None = None
    error: ServingError | None = None
    has_retries_left: bool = False
    """A failed model that is going to be tried again by itself."""
    is_expecting: bool = False
    """No version of it is to come but one that is still being written."""

    @property
    def is_settled(self) -> bool:
        """Whether there is something to report."""
        return self.fate is not Fate.PENDING and not self.is_expecting

    def __str__(self) -> str:
        """As servable_state_monitor.cc lists a servable that did not become available."""
        version = "" if self.version is None else f" version: {self.version}"
        reason = "" if self.error is None else f" due to error: {self.error.status}"
        return f"{{{{name: {self.name}{version}}}{reason}}}, "


def outcome_of(
    name: str,
    states: Sequence[ServableState],
    aspired: Collection[int],
    *,
    problem: str | None = None,
    is_settling: bool = False,
) -> Outcome:
    """Judge a model after a scan.

    `states` are its versions as the monitor has them, newest first; `aspired` those its source wants; `problem` why
    the last listing gave nothing; `is_settling` whether a version folder is still being written.
    """
    if any(state.manager_state is ManagerState.AVAILABLE for state in states):
        return Outcome(name, Fate.AVAILABLE)
    failed = {
        state.id.version: state
        for state in states
        if state.health is not None
        and state.id.version in aspired
        and state.manager_state in (ManagerState.LOADING, ManagerState.END)
    }
    if any(version not in failed for version in aspired):
        return Outcome(name, Fate.PENDING)
    if failed:
        worst = failed[max(failed)]
        retries_left = any(state.manager_state is ManagerState.LOADING for state in failed.values())
        return Outcome(name, Fate.FAILED, worst.id.version, worst.health, retries_left, is_settling)
    if is_settling:
        return Outcome(name, Fate.PENDING, is_expecting=True)
    reason = problem or f"No versions of servable {name} are wanted by its version policy and found in storage"
    return Outcome(name, Fate.EMPTY, error=NotFound(reason))


def failure_text(outcomes: Iterable[Outcome], noun: str) -> str:
    """The sentence that start-up (`servable`) and reload (`model`) fail with."""
    blocks = [str(outcome) for outcome in outcomes]
    return f"{len(blocks)} {noun}(s) did not become available: {{{''.join(blocks)}}}"
