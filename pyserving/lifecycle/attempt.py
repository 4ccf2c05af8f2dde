"""One load, or one unload, that is over: what became of it, for those who count."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from pyserving.errors import Internal, ServingError, error_for
from pyserving.lifecycle.harness import Loader
from pyserving.types import ServableId

MAX_MESSAGE_LENGTH = 2000
"""Of a sentence in a state: TensorFlow may quote a node with all its attributes, or every kernel it knows."""


class Action(Enum):
    LOAD = auto()
    UNLOAD = auto()


@dataclass(frozen=True, slots=True)
class Attempt:
    """Each retry is one of its own; so is the load of a second copy of a version whose files were replaced."""

    id: ServableId
    action: Action
    loader: Loader
    error: ServingError | None = None
    """None: it did what it was to do, even if nobody wanted that any more."""


def kept(error: BaseException) -> ServingError:
    """An error as states carry it: without its traceback, whose frames would keep a half-loaded model in memory."""
    if isinstance(error, ServingError):
        return error_for(error.code, error.message)
    return Internal(f"{type(error).__name__}: {error}")


def readable(error: ServingError) -> ServingError:
    """The error with no more of its sentence than a person reads; the log has the whole."""
    if len(error.message) <= MAX_MESSAGE_LENGTH:
        return error
    return error_for(error.code, f"{error.message[:MAX_MESSAGE_LENGTH]}… (the log has the rest)")
