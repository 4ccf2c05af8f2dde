"""From a version folder to a servable and back; both ways are walked in a loading or unloading thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Generic, TypeVar

from pyserving.errors import ServingError, error_for
from pyserving.executors.executor import Executor
from pyserving.sources.version_copy import FetchAttempt, VersionCopy
from pyserving.types import AspiredVersion, ServableId
from pyserving.warmup import WarmupReport, no_warmup

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class LoadAttempt:
    """What the metrics want to know of a load, warm-up not included: TensorFlow's loader knows nothing of that."""

    has_succeeded: bool
    micros: float


class ServableLoader(Generic[S]):
    """Loads one version. A load that fails leaves nothing behind and may be tried again."""

    def __init__(
        self,
        version: AspiredVersion,
        open_executor: Callable[[str], Executor],
        make_servable: Callable[[str, ServableId, Executor], S],
        warm_up: Callable[[str, S, WarmupReport], None] = no_warmup,
        copy: VersionCopy | None = None,
    ) -> None:
        """`open_executor(path)`, `make_servable(path, id, executor)` and `warm_up(path, servable, report)`, which may
        refuse the servable by raising, are told where the files are: in the version's folder, or in its `copy`."""
        self._version = version
        self._open_executor = open_executor
        self._make_servable = make_servable
        self._warm_up = warm_up
        self._copy = copy
        self._executor: Executor | None = None
        self._attempts: deque[LoadAttempt] = deque()
        self._warmups: deque[WarmupReport] = deque()

    @property
    def path(self) -> str:
        """The version folder, wherever its files were read."""
        return self._version.path

    def take_attempts(self) -> Iterator[LoadAttempt]:
        """The attempts that have ended since this was last asked."""
        while self._attempts:
            yield self._attempts.popleft()

    def take_fetches(self) -> Iterator[FetchAttempt]:
        """The downloads that have ended since this was last asked."""
        return iter(()) if self._copy is None else self._copy.take_attempts()

    def take_warmups(self) -> Iterator[WarmupReport]:
        """What the warm-ups that have ended since this was last asked have to tell the metrics."""
        while self._warmups:
            yield self._warmups.popleft()

    def load(self) -> S:
        """Raises the ServingError of whichever step failed; it holds nothing of the model, so it may be kept."""
        path = self._version.path
        try:
            path = self._bring()
            return self._warmed(path, self._load(path))
        except ServingError as error:
            failure = error_for(error.code, error.message.replace(path, self._version.path))
            self._remove_copy()
        except BaseException:
            self._remove_copy()
            raise
        raise failure  # outside of the clause, or it would keep the first error, whose traceback holds the whole model

    def cancel(self) -> None:
        """Nobody wants the servable any more. Fetching is broken off; what TensorFlow does is not."""
        if self._copy is not None:
            self._copy.cancel()

    def unload(self) -> None:
        """The servable does not work any more; its model's memory is free, and so is the disk."""
        self._close()
        self._remove_copy()

    def _bring(self) -> str:
        return self._version.path if self._copy is None else self._copy.bring()

    def _remove_copy(self) -> None:
        if self._copy is not None:
            self._copy.remove()

    def _load(self, path: str) -> S:
        began = perf_counter()
        has_succeeded = False
        try:
            servable = self._make(path)
            has_succeeded = True
            return servable
        finally:
            self._attempts.append(LoadAttempt(has_succeeded, (perf_counter() - began) * 1e6))

    def _make(self, path: str) -> S:
        executor = self._open_executor(path)
        try:
            servable = self._make_servable(path, self._version.id, executor)
        except BaseException:
            executor.close()
            raise
        self._executor = executor
        return servable

    def _warmed(self, path: str, servable: S) -> S:
        report = WarmupReport()
        try:
            self._warm_up(path, servable, report)
        except BaseException:
            self._close()
            raise
        finally:
            if report.reading is not None:
                report.reading = replace(report.reading, model_path=self._version.path)
            self._warmups.append(report)
        return servable

    def _close(self) -> None:
        if self._executor is not None:
            self._executor.close()
            self._executor = None
