"""SourceRouter: one source for local base paths, one for remote ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TypeAlias

from pyserving.sources.file_system import FileSystemStoragePathSource
from pyserving.sources.storage import is_remote
from pyserving.sources.version_policy import MonitoredServable
from pyserving.types import AspiredVersion

Aspire: TypeAlias = Callable[[str, Sequence[AspiredVersion]], None]


class SourceRouter:
    """To the outside one source.

    A model whose base path moves from one kind to the other keeps its versions until the new place was scanned.
    """

    def __init__(
        self,
        aspire: Aspire,
        local: Callable[[Aspire], FileSystemStoragePathSource],
        remote: Callable[[Aspire], FileSystemStoragePathSource],
    ) -> None:
        """`local` and `remote` make sources that call what they are given."""
        self._aspire = aspire
        self._sources = {kind: make(partial(self._route, kind)) for kind, make in ((False, local), (True, remote))}
        """By whether they are remote."""
        self._is_remote: Mapping[str, bool] = {}

    async def __aenter__(self) -> SourceRouter:
        for source in self._sources.values():
            source.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is aspired or un-aspired any more."""
        await asyncio.gather(*(source.close() for source in self._sources.values()))

    @property
    def problems(self) -> Mapping[str, str]:
        """Model to the reason why its last scan left its versions as they are."""
        return {name: problem for source in self._sources.values() for name, problem in source.problems.items()}

    @property
    def settling(self) -> Mapping[str, Mapping[int, str]]:
        """Model to its new versions that are waited for, and why."""
        return {name: versions for source in self._sources.values() for name, versions in source.settling.items()}

    def update_config(self, servables: Sequence[MonitoredServable]) -> None:
        """Monitor these and nothing else, beginning with a scan at once."""
        self._is_remote = {servable.name: is_remote(servable.base_path) for servable in servables}
        for kind, source in self._sources.items():
            source.update_config([servable for servable in servables if self._is_remote[servable.name] == kind])

    async def scanned(self, names: Collection[str]) -> None:
        """Return when these models were scanned and handed over, by scans that begin after this call.

        As FileSystemStoragePathSource.scanned.
        """
        await asyncio.gather(*(source.scanned(names) for source in self._sources.values()))

    def _route(self, is_remote: bool, name: str, versions: Sequence[AspiredVersion]) -> None:
        """A source that has lost a model to another one un-aspires it, which is not meant."""
        if self._is_remote.get(name, is_remote) == is_remote:
            self._aspire(name, versions)
