"""From a version folder to a servable and back; both ways are walked in a loading or unloading thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from pyserving.errors import ServingError, error_for
from pyserving.executors.executor import Executor
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
        make_servable: Callable[[ServableId, Executor], S],
        warm_up: Callable[[str, S, WarmupReport], None] = no_warmup,
    ) -> None:
        """`warm_up(path, servable, report)` may refuse the servable by raising."""
        self._version = version
        self._open_executor = open_executor
        self._make_servable = make_servable
        self._warm_up = warm_up
        self._executor: Executor | None = None
        self._attempts: deque[LoadAttempt] = deque()
        self._warmups: deque[WarmupReport] = deque()

    @property
    def path(self) -> str:
        """The version folder."""
        return self._version.path

    def take_attempts(self) -> Iterator[LoadAttempt]:
        """The attempts that have ended since this was last asked."""
        while self._attempts:
            yield self._attempts.popleft()

    def take_warmups(self) -> Iterator[WarmupReport]:
        """What the warm-ups that have ended since this was last asked have to tell the metrics."""
        while self._warmups:
            yield self._warmups.popleft()

    def load(self) -> S:
        """Raises the ServingError of whichever step failed; it holds nothing of the model, so it may be kept."""
        try:
            return self._warmed(self._load())
        except ServingError as error:
            failure = error_for(error.code, error.message)
        raise failure  # outside of the clause, or it would keep the first error, whose traceback holds the whole model

    def _load(self) -> S:
        began = perf_counter()
        has_succeeded = False
        try:
            servable = self._make()
            has_succeeded = True
            return servable
        finally:
            self._attempts.append(LoadAttempt(has_succeeded, (perf_counter() - began) * 1e6))

    def _make(self) -> S:
        executor = self._open_executor(self._version.path)
        try:
            servable = self._make_servable(self._version.id, executor)
        except BaseException:
            executor.close()
            raise
        self._executor = executor
        return servable

    def _warmed(self, servable: S) -> S:
        report = WarmupReport()
        try:
            self._warm_up(self._version.path, servable, report)
        except BaseException:
            self.unload()
            raise
        finally:
            self._warmups.append(report)
        return servable

    def unload(self) -> None:
        """The servable does not work any more; its model's memory is free."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None
