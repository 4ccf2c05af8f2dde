"""One version under management: its state, its transition table and how many requests are in it."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Any, Protocol

from pyserving.errors import ServingError
from pyserving.types import AspiredVersion


class Loader(Protocol):
    """Brings one version into memory and out again. `load` and `unload` run in threads, never both at a time."""

    def load(self) -> Any:
        """The servable. Called again after a failure, so a failed call leaves nothing behind."""

    def cancel(self) -> None:
        """Called on the loop while `load` runs whose servable nobody wants any more: it may end early, by raising."""

    def unload(self) -> None:
        """Called once after a load that succeeded, when nobody holds the servable any more."""


class State(Enum):
    NEW = auto()
    """Accepted; nothing was decided yet."""
    LOADING = auto()
    """From the decision to load until it succeeded or was given up, the waits between attempts included."""
    READY = auto()
    QUIESCING = auto()
    """Out of the serving map; requests that hold it finish."""
    UNLOADING = auto()
    DISABLED = auto()
    ERROR = auto()


_TRANSITIONS: dict[State, set[State]] = {
    State.NEW: {State.LOADING, State.ERROR},  # ERROR: no longer wished before it began
    State.LOADING: {State.READY, State.UNLOADING, State.ERROR},  # UNLOADING: no longer wished while it loaded
    State.READY: {State.QUIESCING},
    State.QUIESCING: {State.UNLOADING},
    State.UNLOADING: {State.DISABLED, State.ERROR},
    State.DISABLED: set(),
    State.ERROR: set(),
}


class LoaderHarness:
    """What the manager knows of one version. Belongs to the manager, on the loop."""

    __slots__ = (
        "attempts",
        "error",
        "id",
        "in_flight",
        "is_aspired",
        "is_attempting",
        "is_outdated",
        "loader",
        "path",
        "reload_error",
        "retry_timer",
        "servable",
        "state",
    )

    def __init__(self, aspired: AspiredVersion, loader: Loader) -> None:
        self.id = aspired.id
        self.path = aspired.path
        self.loader = loader
        self.state = State.NEW
        self.is_aspired = True
        self.is_attempting = False
        """A load is with the workers."""
        self.is_outdated = False
        """Its files changed after it began to read them."""
        self.attempts = 0
        """Loads begun."""
        self.error: ServingError | None = None
        """Of the last attempt."""
        self.reload_error: ServingError | None = None
        """Of the last attempt to load another copy, of replaced files, while this one serves."""
        self.retry_timer: asyncio.TimerHandle | None = None
        self.servable: Any = None
        self.in_flight = 0
        """Open handles."""

    @property
    def is_failing(self) -> bool:
        """Given up, or between a failed attempt and the next."""
        if self.state is State.LOADING:
            return self.error is not None and not self.is_attempting
        return self.state is State.ERROR

    def become(self, state: State) -> None:
        if state not in _TRANSITIONS[self.state]:
            raise RuntimeError(f"{self.id} cannot go from {self.state.name} to {state.name}")
        self.state = state
